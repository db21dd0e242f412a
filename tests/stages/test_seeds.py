import hashlib

import pytest

from pipelines.stages.seeds import region_seed, seed_for, seeds_for


def test_no_variants_have_no_seeds():
    assert seeds_for("sku-1", 7, 0) == []


def test_seed_is_the_first_63_bits_of_the_sha256_of_its_parts():
    digest = hashlib.sha256(b'["variant","sku-1",7,2]').hexdigest()

    assert seed_for("sku-1", 7, 2) == int(digest[:16], 16) >> 1


def test_seed_fits_a_signed_64_bit_column_and_any_text_will_do():
    seeds = [seed_for(basis, 2**63 - 1, 5) for basis in ("", "Größe 42", "\ud800", '"],', "x" * 10_000)]

    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == 5


@pytest.mark.parametrize("other", [("a", 11, 2), ("a1", 12, 2), ("a1", 1, 3), ("A1", 1, 2), ("a1,1", 1, 2)])
def test_parts_that_run_together_give_other_seeds(other):
    assert seed_for(*other) != seed_for("a1", 1, 2)


def test_more_variants_leave_the_first_seeds_alone():
    assert seeds_for("sku-1", 7, 8)[:3] == seeds_for("sku-1", 7, 3)


def test_first_region_keeps_the_seed_and_others_have_their_own():
    seeds = [region_seed(99, region) for region in range(4)]

    assert seeds[0] == 99
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [region_seed(99, region) for region in range(4)]
