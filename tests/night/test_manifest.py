import subprocess
import sys

import pyarrow as pa
import pytest

from pipelines import storage
from pipelines.errors import InfrastructureError, Missing
from pipelines.night import manifest
from pipelines.storage import s3_client


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
    assert manifest.runs(str(tmp_path / "nothing")) == manifest.Runs(0, None, ())


def test_newest_is_the_highest_number_that_was_published(tmp_path):
    published(tmp_path, 2, {"a": "ok"})
    published(tmp_path, 10, {"a": "ok"})
    storage.write(storage.join(manifest.run_uri(str(tmp_path), 11), "plan.parquet"), b"unfinished")

    assert manifest.newest(str(tmp_path)).run_id == 10
    found = manifest.runs(str(tmp_path))
    assert (found.highest, found.newest.run_id, found.unfinished) == (11, 10, (11,))


def test_unfinished_runs_are_looked_for_down_to_the_last_that_left_nothing_pending(tmp_path):
    for run_id, pending in ((2, 0), (4, 3), (6, 1)):
        manifest.publish(manifest.run_uri(str(tmp_path), run_id), {"files": [], "counts": {"pending": pending}})
    for run_id in (1, 3, 5, 7):
        storage.write(storage.join(manifest.run_uri(str(tmp_path), run_id), "plan.parquet"), b"unfinished")

    found = manifest.runs(str(tmp_path))

    assert (found.highest, found.newest.run_id, found.unfinished) == (7, 6, (7, 5, 3))


def test_looking_at_runs_lists_nothing_of_what_lies_in_them(bucket):
    output = f"s3://{bucket}/out"
    manifest.publish(manifest.run_uri(output, 1), {"files": []})
    for number in range(3):
        storage.write(storage.join(manifest.run_uri(output, 1), "parts", f"{number}.parquet"), b"a part")
    asked = []
    remember = lambda model, **_: asked.append(model.name)  # noqa: E731  # botocore's hook wants a callable
    s3_client.client().meta.events.register("before-call.s3", remember)

    found = manifest.runs(output)

    s3_client.client().meta.events.unregister("before-call.s3", remember)
    assert found.newest.run_id == 1
    assert asked == ["ListObjectsV2", "GetObject"]


def test_run_that_was_moved_is_read_where_it_lies_now(tmp_path):
    digest = "ab" * 32
    uris = {
        "crop_uris": [[f"out/crops/ab/{digest}.png", f"s3://old/out/variants/ab/{digest}.png"], None, []],
        "image_uris": [[None, f"/somewhere/else/images/ab/{digest}.png"], None, ["https://shop.example/a.png"]],
    }
    run = manifest.run_uri(str(tmp_path), 1)
    manifest.publish(run, {"files": [manifest.write_file(run, "items/00000.parquet", pa.table(uris))]})

    (read,) = manifest.read(manifest.open_run(str(tmp_path), 1), "items")

    assert read.to_pydict() == {
        "crop_uris": [[f"{tmp_path}/crops/ab/{digest}.png", f"{tmp_path}/variants/ab/{digest}.png"], None, []],
        "image_uris": [[None, f"{tmp_path}/images/ab/{digest}.png"], None, ["https://shop.example/a.png"]],
    }


def test_file_of_a_run_is_written_once(tmp_path):
    run = published(tmp_path, 1, {"a": "ok"})

    with pytest.raises(InfrastructureError, match="written once"):
        manifest.write_file(run.run_uri, "items/00000.parquet", pa.table({"item_key": ["b"]}))
    assert [table["item_key"].to_pylist() for table in manifest.read(run, "items")] == [["a"]]


def test_part_that_is_damaged_is_told_and_left_out(tmp_path, caplog):
    run = manifest.run_uri(str(tmp_path), 1)
    whole = manifest.to_parquet(pa.table({"item_key": [f"key-{number}" for number in range(500)]}))
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for name, data in (("a", whole), ("b", whole[: len(whole) // 2]), ("c", bytes(flipped)), ("d", b"")):
        storage.write(storage.join(run, "parts", f"{name}.parquet"), data)

    assert [len(table) for table in manifest.read_parts(run)] == [500]
    assert caplog.text.count("are done again") == 3


def test_reading_a_manifest_leaves_an_interpreter_that_ends_well(tmp_path):
    published(tmp_path, 1, {f"key-{number}": "ok" for number in range(2000)})
    script = (
        f"from pipelines.night import manifest; list(manifest.read(manifest.open_run({str(tmp_path)!r}, 1), 'items'))"
    )

    ended = [subprocess.run([sys.executable, "-c", script], check=False).returncode for _ in range(4)]

    assert ended == [0, 0, 0, 0]


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
