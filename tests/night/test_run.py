"""A night over the real models, on real S3 and real Ray: planned once, rendered once, published once."""

import json
import time
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import recipe, storage
from pipelines.errors import ConfigError, InfrastructureError
from pipelines.executors.placement import LOCAL
from pipelines.night import lease, manifest, run
from pipelines.night.compare import RENDER
from pipelines.night.lease import Lease
from pipelines.night.options import Night
from pipelines.night.publish import publish
from pipelines.pixels.images import decode, encode
from pipelines.pixels.masks import from_rle
from pipelines.pixels.proof import prove
from sample_world.drawing.scenes import scene

GIVEN = {
    "name": "night",
    "models": "embedded",
    "catalogue": {"keep_columns": ["price"]},
    "prompts": {"find": "{category}", "paint": "a {colour} {category}"},
    "paint": {"variants": 2, "steps": 2},
    "judge": {"min_text_similarity": -1.0, "max_ring_error": 255.0},
}


ONE_PROCESS = (replace(LOCAL[0], replicas=1),)  # four items are one block: a second process would only load models


def put_catalogue(uri, prices=("1", "2", "3"), colours=("red", "blue", "green"), name="products.parquet"):
    """Three scenes with the category that is largest in each, and one file that is no picture; answers the table."""
    rows = {"sku": [], "image": [], "category": [], "colour": [], "price": []}
    for number, (price, colour) in enumerate(zip(prices, colours, strict=True)):
        made = scene(1_500_000 + number, (320, 256))
        largest = max(made.objects, key=lambda thing: thing.mask.sum())
        storage.write(storage.join(uri, f"{number}.png"), encode(made.rgb, "png"))
        values = (f"k{number}", f"{number}.png", largest.category, colour, price)
        for column, value in zip(rows, values, strict=True):
            rows[column].append(value)
    storage.write(storage.join(uri, "broken.jpg"), b"this is no picture")
    for column, value in zip(rows, ("broken", "broken.jpg", "mug", "red", "4"), strict=True):
        rows[column].append(value)
    table = pa.table(rows).replace_schema_metadata({b"packshot_sample": b"1"})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    storage.write(storage.join(uri, name), sink.getvalue().to_pybytes())
    return storage.join(uri, name)


def items(night):
    published = manifest.newest(night.output_uri)
    return {row["item_key"]: row for table in manifest.read(published, "items") for row in table.to_pylist()}


@pytest.fixture(scope="module")
def first_night(s3, local_ray):
    """A process died when it had rendered two of the four items; another one rendered the others and published."""
    s3.create_bucket("nights")
    table = put_catalogue("s3://nights/catalogue")
    night = Night(table, "s3://nights/out", recipe.parse(GIVEN), ONE_PROCESS, max_failed=1.0)
    trial = replace(night, limit=2)
    made = run.make_plan(trial)
    with lease.held(made.run_uri, made.digest) as held:
        run._on_ray(trial, made, held, None)
    return night, run.render(night)


@pytest.fixture
def night_after(first_night, bucket):
    """Makes the next night, with another table of the same pictures, after a copy of the first night's run."""
    night, outcome = first_night
    for file in list(storage.list_files(outcome.run_uri)):
        copied = storage.join(f"s3://{bucket}/out", file.uri.removeprefix(night.output_uri))
        storage.write(copied, storage.read(file.uri))

    def make(**columns):
        table = put_catalogue("s3://nights/catalogue", **columns, name=f"{bucket}.parquet")
        return replace(night, catalogue_uri=table, output_uri=f"s3://{bucket}/out")

    return make


def test_every_item_is_accounted_for_and_the_bad_file_has_its_reason(first_night):
    night, outcome = first_night
    done = items(night)

    counts = outcome.counts
    assert outcome.exit_code == 0
    assert counts["planned"] == 4 == counts["ok"] + counts["rejected"] + counts["failed"] + counts["pending"]
    assert set(done) == {"k0", "k1", "k2", "broken"}
    assert (done["broken"]["status"], done["broken"]["reason"], done["broken"]["node"]) == (
        "failed",
        "not_an_image",
        "read",
    )


def test_delivered_pictures_are_the_source_outside_the_mask(first_night):
    night, _ = first_night
    proved = 0
    for item in items(night).values():
        for uri, digest in zip(item["image_uris"] or [], item["image_sha256s"] or [], strict=True):
            if uri is not None:
                source, made = decode(storage.read(item["source_uri"])).rgb, decode(storage.read(uri)).rgb
                allow = from_rle(item["allow_mask_rle"])
                assert prove(source, made, allow).changed_outside == 0
                assert (source != made)[allow].any()
                assert digest in uri
                proved += 1
    assert proved


def test_images_table_holds_every_variant_with_its_hyperparameters(first_night):
    night, _ = first_night
    published = manifest.newest(night.output_uri)
    (images,) = list(manifest.read(published, "images"))

    assert images.schema.equals(manifest.IMAGES_SCHEMA)
    row = images.to_pylist()[0]
    assert (row["steps"], row["sampler"], row["guidance"]) == (2, "unipc", 3.0)
    assert len(row["checkpoints"]) == 4
    assert all(len(checkpoint["sha256"]) == 64 for checkpoint in row["checkpoints"])
    assert len(images) == 2 * sum(item["variant_seeds"] is not None for item in items(night).values())


def test_duckdb_and_pandas_read_the_manifest(first_night, tmp_path):
    _, outcome = first_night
    for name in ("items", "images"):
        (tmp_path / f"{name}.parquet").write_bytes(storage.read(storage.join(outcome.run_uri, name, "00000.parquet")))

    statuses = duckdb.sql(f"select status, count(*) from '{tmp_path}/items.parquet' group by 1").fetchall()
    frame = pd.read_parquet(tmp_path / "images.parquet")

    assert dict(statuses) == dict(pd.read_parquet(tmp_path / "items.parquet")["status"].value_counts())
    assert set(frame["item_key"]) <= {"k0", "k1", "k2"}


def test_running_again_renders_nothing(first_night):
    night, first = first_night

    again = run.render(night)

    assert again.exit_code == 0
    assert "nothing to do" in again.notes[0]
    assert manifest.newest(night.output_uri).run_id == first.run_id


def test_changed_judge_calls_no_model_and_keeps_the_same_pixels(first_night):
    night, _ = first_night
    before = items(night)
    other = replace(night, recipe=recipe.parse({**GIVEN, "judge": {**GIVEN["judge"], "keep_best": 2}}))

    made = run.make_plan(other)
    outcome = run.render(other)

    after = items(other)
    rendered = [key for key, item in after.items() if item["start_at"] == "judge"]
    assert made.counts()["from_judge"] == len(rendered) > 0
    assert outcome.run_id == made.run_id
    for key in rendered:
        assert set(dict(after[key]["seconds"])) == {"read", "judge", "deliver"}
        kept_before = {digest for digest in before[key]["image_sha256s"] if digest}
        assert kept_before <= set(after[key]["image_sha256s"])
        assert sum(after[key]["variant_kept"]) == 2
    assert after["broken"]["reason"] == "not_an_image"


def test_changed_price_alone_publishes_new_values_and_renders_nothing(night_after):
    night = night_after(prices=("9", "2", "3"))

    outcome = run.render(night)

    assert (outcome.run_id, outcome.counts["rendered"]) == (3, 0)
    assert dict(items(night)["k0"]["columns"])["price"] == "9"


def test_changed_word_renders_that_item_alone_from_the_mask(first_night, night_after):
    painted = next(key for key, item in items(first_night[0]).items() if item["variant_seeds"])
    colours = ["red", "blue", "green"]
    colours[int(painted[1:])] = "black"

    made = run.make_plan(night_after(colours=colours))

    assert made.rows(RENDER)["item_key"].to_pylist() == [painted]
    assert made.rows(RENDER)["start_at"].to_pylist() == ["mask"]


def test_what_a_dead_process_rendered_is_taken_over_from_its_parts(first_night):
    night, outcome = first_night

    done = items(night).values()
    assert outcome.run_id == 2
    assert (outcome.counts["adopted"], outcome.counts["rendered"]) == (2, 2)
    assert "2 items were finished by run 1, which was never published; they are taken over" in outcome.notes
    assert all(uri.startswith("s3://nights/out/") for item in done for uri in item["crop_uris"] or ())


def test_parts_that_ray_writes_carry_page_checksums(first_night):
    night, _ = first_night
    parts = list(storage.list_files(storage.join(manifest.run_uri(night.output_uri, 1), "parts")))
    data = storage.read(parts[0].uri)

    def refused(place, checked):
        flipped = bytearray(data)
        flipped[place] ^= 1
        try:
            pq.ParquetFile(pa.BufferReader(bytes(flipped)), page_checksum_verification=checked).read()
        except (pa.ArrowException, OSError) as error:
            return "crc" in str(error).lower() if checked else True
        return False

    places = range(4, len(data) // 2, len(data) // 200)
    by_checksum = [place for place in places if refused(place, checked=True)]

    assert len(by_checksum) > len(places) // 4  # flips of a page's content; those of headers no checksum covers
    assert sum(refused(place, checked=False) for place in by_checksum) < len(by_checksum)


def test_run_whose_lease_lapsed_publishes_nothing(tmp_path):
    table = tmp_path / "products.csv"
    table.write_text("sku,image,category,colour,price\nk0,0.png,mug,,1\n")  # no colour: nothing to render
    night = Night(str(table), str(tmp_path / "out"), recipe.parse(GIVEN), allow_embedded=True)
    made = run.make_plan(night)

    with pytest.raises(InfrastructureError, match="another process may be doing its work"):
        publish(night, made, {}, Lease(f"{made.run_uri}/lease.json", until=time.time()))
    assert manifest.newest(night.output_uri) is None
    assert not (tmp_path / "out" / "runs" / "00000001" / "items").exists()

    publish(night, made, {}, Lease(f"{made.run_uri}/lease.json", until=time.time() + 60))
    with pytest.raises(InfrastructureError, match="run 1 is published already"):
        publish(night, made, {}, Lease(f"{made.run_uri}/lease.json", until=time.time() + 60))


def test_foreign_catalogue_needs_allow_embedded(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(np.full((64, 64, 3), 200, np.uint8), "png"))
    plain = recipe.parse({**GIVEN, "prompts": {"find": "mug", "paint": "a red mug"}, "catalogue": {}})
    night = Night(str(folder), str(tmp_path / "out"), plain)

    with pytest.raises(ConfigError, match="--allow-embedded"):
        run.make_plan(night)
    assert run.make_plan(replace(night, allow_embedded=True)).counts()["render"] == 1


def test_run_json_names_every_file_with_its_hash(first_night):
    _, outcome = first_night
    facts = json.loads(storage.read(storage.join(outcome.run_uri, "run.json")))

    assert {file["path"].split("/")[0] for file in facts["files"]} == {"items", "images"}
    assert facts["counts"]["duplicates"] == 0
    assert facts["sample_world_only"] is True
    assert facts["versions"]["ray"] == "2.60.0"
