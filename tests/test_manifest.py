import pyarrow as pa
import pytest

from pipelines import manifest, storage
from pipelines.errors import InfrastructureError, Missing


def published(tmp_path, run_id, statuses, hashes=None):
    """A run with an items table of these statuses by key."""
    run = manifest.run_uri(str(tmp_path), run_id)
    digests = [[(hashes or {}).get(key)] for key in statuses]
    table = pa.table({"item_key": list(statuses), "status": list(statuses.values()), "image_sha256s": digests})
    file = manifest.write_file(run, "items/00000.parquet", manifest.items_table(table))
    assert manifest.publish(run, {"files": [file], "run_id": run_id})
    return manifest.open_run(str(tmp_path), run_id)


def test_output_without_a_run_has_no_newest(tmp_path):
    assert manifest.newest(str(tmp_path / "nothing")) is None
    assert manifest.runs(str(tmp_path / "nothing")) == {}


def test_newest_is_the_highest_number_that_was_published(tmp_path):
    published(tmp_path, 2, {"a": "ok"})
    published(tmp_path, 10, {"a": "ok"})
    storage.write(storage.join(manifest.run_uri(str(tmp_path), 11), "plan.parquet"), b"unfinished")

    assert manifest.newest(str(tmp_path)).run_id == 10
    assert list(manifest.runs(str(tmp_path))) == [2, 10, 11]


def test_run_is_published_once(tmp_path):
    published(tmp_path, 1, {"a": "ok"})

    assert not manifest.publish(manifest.run_uri(str(tmp_path), 1), {"files": []})


def test_file_that_changed_after_publication_is_not_trusted(tmp_path):
    run = published(tmp_path, 1, {"a": "ok"})
    (tmp_path / "runs" / "00000001" / "items" / "00000.parquet").write_bytes(b"PAR1 something else PAR1")

    with pytest.raises(InfrastructureError, match=r"run\.json says"):
        list(manifest.read(run, "items"))


def test_run_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(Missing):
        manifest.open_run(str(tmp_path), 7)


def test_difference_of_two_nights_names_items_by_what_happened(tmp_path):
    old = published(
        tmp_path, 1, {"gone": "ok", "same": "ok", "fell": "ok", "rose": "failed"}, {"same": "1", "fell": "2"}
    )
    new = published(
        tmp_path, 2, {"new": "ok", "same": "ok", "fell": "rejected", "rose": "ok"}, {"same": "1", "rose": "3"}
    )

    assert manifest.difference(old, new) == {
        "added": ["new"],
        "vanished": ["gone"],
        "pictures_changed": ["fell", "rose"],
        "now_ok": ["rose"],
        "no_longer_ok": ["fell"],
    }
