import pytest

from tests.mutants import MUTANTS, ROOT, Mutant, _outcome


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_still_fits_the_code_that_it_slips_in(mutant):
    code = (ROOT / mutant.file).read_text()

    assert code.count(mutant.old) == 1
    assert code.replace(mutant.old, mutant.new) != code
    assert (ROOT / mutant.killed_by).is_file()


def test_a_mutant_is_killed_or_survives_and_leaves_the_copy_as_it_was(tmp_path):
    (tmp_path / "thing.py").write_text("WIDTH, HEIGHT = 3, 4\n")
    (tmp_path / "test_thing.py").write_text("from thing import WIDTH\n\n\ndef test_width():\n    assert WIDTH == 3\n")

    def outcome(old, new):
        return _outcome(tmp_path, Mutant("a slip", "thing.py", old, new, "test_thing.py"))

    assert outcome("3, 4", "5, 4") == "killed"
    assert outcome("3, 4", "3, 5") == "SURVIVED"
    assert outcome("3, 4", "3, (") == "no verdict (pytest says 2)"
    assert outcome("3; 4", "5; 4").startswith("its old text stands 0 times in thing.py, expected once")
    assert (tmp_path / "thing.py").read_text() == "WIDTH, HEIGHT = 3, 4\n"
