"""The rows of a table, each of which fails alone."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import catalogue, rows
from pipelines.errors import ConfigError
from tests.catalogue.given import ITEMS, a_recipe, a_table


def test_no_rows_come_from_no_items():
    assert catalogue.rows(a_recipe(), a_table().slice(0, 0), None) == []


def test_templates_are_filled_in_and_variants_take_them_in_turn():
    prompts = {
        "find": "{category}",
        "paint": ["a {colour} {category}", "{2nd name}: {price}"],
        "negative": "no {colour}",
    }
    table = a_table(**{"2nd name": ["Tee", "Cup"], "price": [3.0, 4.5]})

    first, second = catalogue.rows(a_recipe(prompts=prompts, paint={"variants": 3}), table, "/data")

    assert first["find_prompt"] == "shirt"
    assert first["paint_prompts"] == ["a red shirt", "Tee: 3", "a red shirt"]
    assert second["paint_prompts"] == ["a blue mug", "Cup: 4.5", "a blue mug"]
    assert second["negative_prompt"] == "no blue"
    assert second["source_uri"] == "/data/b.jpg"
    assert second["columns"]["price"] == "4.5"


def test_every_row_has_every_column_and_fits_its_schema():
    every = {**rows.CATALOGUE_COLUMNS, **rows.OUTCOME_COLUMNS}

    kept = a_recipe(catalogue={"keep_columns": ["when"]})

    made = catalogue.rows(kept, a_table(when=pa.array([0, None], pa.timestamp("s"))), "/data")

    assert all(list(row) == list(every) for row in made)
    back = rows.to_table(made, pa.schema(list(every.items()))).to_pylist()
    assert [row["status"] for row in back] == ["ok", "ok"]
    assert dict(back[0]["columns"]) == {
        **{name: values[0] for name, values in ITEMS.items()},
        "when": "1970-01-01 00:00:00",
    }


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"prompts": {"paint": "a {color} mug"}},
            r"`prompts.paint` names the column 'color' in 'a \{color\} mug'.*'colour'",
        ),
        ({"paint": {"seed_by": "skus"}}, r"`paint.seed_by` names the column 'skus', .* did you mean 'sku'"),
        ({"catalogue": {"mask": "matte"}}, r"`catalogue.mask` names the column 'matte'.*it has: sku, image"),
        ({"catalogue": {"keep_columns": ["price"]}}, r"`catalogue.keep_columns` names the column 'price'"),
    ],
)
def test_a_column_that_the_table_lacks_is_told_with_the_nearest(sections, words):
    with pytest.raises(ConfigError, match=words):
        catalogue.rows(a_recipe(**sections), a_table().slice(0, 0), None)


@pytest.mark.parametrize(
    ("columns", "sections", "words"),
    [
        ({"colour": ["red", None]}, {}, "'colour' is empty, and `prompts.paint`"),
        ({"category": ["mug", " "]}, {}, "'category' is empty, and `prompts.find`"),
        ({"view": ["front", ""]}, {"paint": {"seed_by": "view"}}, "'view' is empty, and `paint.seed_by`"),
        ({"image": ["a.jpg", None]}, {}, "'image' is empty, and `catalogue.image`"),
        ({"sku": ["1", " "]}, {}, "'sku' is empty, and `catalogue.key`"),
        ({"colour": [7.0, float("nan")]}, {}, "'colour' is empty, and `prompts.paint`"),
    ],
)
def test_a_row_that_lacks_a_value_fails_alone(columns, sections, words):
    good, bad = catalogue.rows(a_recipe(**sections), a_table(**columns), "/data")

    assert (good["status"], good["reason"]) == ("ok", None)
    assert (bad["status"], bad["reason"], bad["node"]) == ("failed", "missing_value", None)
    assert words in bad["detail"]


def test_a_row_without_a_key_is_known_by_its_number():
    made = catalogue.rows(a_recipe(), a_table(sku=["1", None]), "/data")

    assert [row["item_key"] for row in made] == ["1", "(row 2)"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../b.jpg", "`..` segment"),
        ("a\\..\\..\\b.jpg", "`..` segment"),
        ("https://shop/b.jpg", "of a scheme that is not read here"),
        ("file:///etc/passwd", "of a scheme that is not read here"),
        ("b\n.jpg", "control characters"),
        ("b\0.jpg", "control characters"),
        ("b" * 5000, "5,000 characters"),
        ("s3://", "names a bucket and no file"),
        ("s3://b", "names a bucket and no file"),
    ],
)
@pytest.mark.parametrize("base_uri", ["s3://b/cat", "/data", None])
def test_a_path_that_cannot_be_is_its_row_alone(base_uri, path, words):
    paths = a_table(image=[f"{base_uri}/a.jpg", path])

    good, bad = catalogue.rows(a_recipe(), paths, base_uri)

    assert good["reason"] in (None, "forbidden_path")
    assert (bad["status"], bad["reason"], bad["source_uri"]) == ("failed", "bad_path", None)
    assert "column 'image'" in bad["detail"]
    assert words in bad["detail"]
    assert len(bad["detail"]) < 500


OUTSIDE_S3 = ["s3://b/cat2/a.jpg", "s3://b/a.jpg", "s3://other/cat/a.jpg", "/cat/a.jpg", "/etc/passwd"]

OUTSIDE_FOLDER = ["/data/cat2/a.jpg", "/etc/passwd", "/dev/zero", "s3://b/data/cat/a.jpg"]


@pytest.mark.parametrize(
    ("base_uri", "path"),
    [
        *(("s3://b/cat", path) for path in OUTSIDE_S3),
        *(("/data/cat", path) for path in OUTSIDE_FOLDER),
        *((None, path) for path in ("a.jpg", "/etc/passwd", "s3://b/cat/a.jpg")),
    ],
)
@pytest.mark.parametrize("setting", ["image", "mask", "references", "scene", "front"])
def test_no_column_leads_out_of_the_catalogue(setting, base_uri, path):
    table = pa.table({"sku": ["1"], "given_image_bytes": [b"picture"], "image": [None], setting: [path]})
    wanted = a_recipe(catalogue={setting: setting}, prompts={"find": "mug", "paint": "a mug"})

    (row,) = catalogue.rows(wanted, table, base_uri)

    assert (row["status"], row["reason"]) == ("failed", "forbidden_path")
    assert f"column {setting!r} names {path!r}" in row["detail"]
    assert "`catalogue.allow`" in row["detail"]
    assert not any(row[name] for name in row if name.endswith(("_uri", "_uris")))


def test_one_of_several_references_that_leads_out_fails_its_row():
    table = a_table(look=[["a.jpg", "/etc/passwd"], ["a.jpg", None]])

    bad, good = catalogue.rows(a_recipe(catalogue={"references": "look"}), table, "s3://b/cat")

    assert (bad["reason"], bad["reference_uris"]) == ("forbidden_path", None)
    assert (good["reason"], good["reference_uris"]) == (None, ["s3://b/cat/a.jpg"])


def test_a_site_absolute_path_says_how_to_write_it():
    (row,) = catalogue.rows(a_recipe(), a_table(image=["/photos/1.jpg"] * 2).slice(0, 1), "s3://b/cat")

    assert "catalogue lies in s3://b/cat; write it relative to that, without the first `/`" in row["detail"]


def test_what_the_recipe_allows_may_be_read_and_changes_no_key(tmp_path):
    table = a_table(image=["s3://photos/2024/a.jpg", str(tmp_path / "b.jpg")])
    allowed = a_recipe(catalogue={"allow": ["s3://photos/2024", str(tmp_path)]})
    narrower = a_recipe(catalogue={"allow": ["s3://photos/20", str(tmp_path / "b")]})

    made = catalogue.rows(allowed, table, "s3://b/cat")
    refused = catalogue.rows(narrower, table, "s3://b/cat")

    assert [row["source_uri"] for row in made] == table["image"].to_pylist()
    assert [row["status"] for row in made] == ["ok", "ok"]
    assert [row["reason"] for row in refused] == ["forbidden_path", "forbidden_path"]


@pytest.mark.parametrize(
    "folder", ["", "photos", "./photos", "s3://", "s3:///x", "https://x/y", "/a/../b", "s3://b/../c"]
)
def test_only_places_can_be_allowed(folder):
    with pytest.raises(ConfigError, match=r"`catalogue.allow.*is no place; expected `s3://bucket`"):
        a_recipe(catalogue={"allow": [folder]})


def test_links_that_lead_out_of_a_local_catalogue_are_refused(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tmp_path / "cat").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "cat" / name).write_bytes(b"x")
    (tmp_path / "cat" / "in.jpg").symlink_to("a.jpg")
    (tmp_path / "cat" / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "same").symlink_to(tmp_path / "cat")

    made, _ = catalogue.product_rows(str(tmp_path / "same"), a_recipe(prompts={"find": "mug", "paint": "a mug"}))

    reasons = {row["item_key"]: row["reason"] for row in made}
    assert reasons == {"a.jpg": None, "b.jpg": None, "in.jpg": None, "out.jpg": "forbidden_path"}


def test_a_link_to_itself_and_a_name_that_is_not_utf_8_are_their_rows_alone(tmp_path):
    for name in (b"a.jpg", b"caf\xe9.jpg"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    wanted = a_recipe(prompts={"find": "mug", "paint": "a mug"})

    good, bad = catalogue.product_rows(str(tmp_path), wanted)[0]
    (tmp_path / "table.csv").write_text("sku,image\n1,a.jpg\n2,loop.jpg\n")
    listed, unlisted = catalogue.product_rows(str(tmp_path / "table.csv"), wanted)[0]

    assert (good["item_key"], good["status"]) == ("a.jpg", "ok")
    assert (bad["item_key"], bad["status"], bad["reason"]) == ("caf\\xe9.jpg", "failed", "bad_value")
    assert "not UTF-8; rename" in bad["detail"]
    rows.to_table([good, bad], pa.schema(list(rows.CATALOGUE_COLUMNS.items())))
    assert listed["source_version"] is not None
    assert (unlisted["status"], unlisted["source_version"]) == ("ok", None)


def test_a_text_of_a_parquet_table_that_is_not_utf_8_is_its_row_alone(tmp_path):
    broken = pa.array([b"red", b"bl\xe9u"], pa.binary()).view(pa.string())
    pq.write_table(a_table(colour=broken), tmp_path / "table.parquet")

    good, bad = catalogue.product_rows(str(tmp_path / "table.parquet"), a_recipe())[0]

    assert (good["status"], bad["status"], bad["reason"]) == ("ok", "failed", "bad_value")
    assert r"column 'colour' holds 'bl\\xe9u', which is not UTF-8" in bad["detail"]


SIGNED = "X-Amz-Credential=AKIA5&X-Amz-Signature=5ecret&X-Amz-Security-Token=t0ken"


@pytest.mark.parametrize(
    "path",
    [f"https://me:pa55@shop/a.jpg?{SIGNED}", f"a.jpg?{SIGNED}", f"s3://b/cat/a.jpg?{SIGNED}", "a.jpg?v=1&sig=5ecret"],
)
def test_the_signature_of_a_presigned_url_is_in_no_row(path):
    (row,) = catalogue.rows(a_recipe(), a_table(image=[path] * 2).slice(0, 1), "s3://b/cat")

    assert row["reason"] == "bad_path"
    assert not [secret for secret in ("5ecret", "AKIA5", "t0ken", "pa55") if secret in repr(row)]


def test_only_columns_that_are_named_or_kept_come_along():
    table = a_table(price=["1", "2"], supplier=["me@x", "you@x"], raw=[b"1", b"2"])

    (bare, _), (kept, _) = (
        catalogue.rows(a_recipe(catalogue={"keep_columns": names}), table, "/data") for names in ([], ["price"])
    )

    assert set(bare["columns"]) == {"sku", "image", "category", "colour"}
    assert set(kept["columns"]) == {"sku", "image", "category", "colour", "price"}


@pytest.mark.parametrize(
    ("sections", "setting"),
    [
        ({"prompts": {"paint": "a {raw} mug"}}, "prompts.paint"),
        ({"paint": {"seed_by": "raw"}}, "paint.seed_by"),
        ({"catalogue": {"image": "raw"}}, "catalogue.image"),
        ({"catalogue": {"keep_columns": ["raw"]}}, "catalogue.keep_columns"),
    ],
)
def test_a_column_of_bytes_is_no_text(sections, setting):
    with pytest.raises(ConfigError, match=f"`{setting}` names the column 'raw'.*which holds binary, not text"):
        catalogue.rows(a_recipe(**sections), a_table(raw=[b"1", b"2"]), "/data")


def test_bytes_of_a_request_come_along_without_a_uri():
    table = pa.table(
        {
            "sku": ["1"],
            "category": ["mug"],
            "colour": ["red"],
            "given_image_bytes": [b"picture"],
            "given_mask_bytes": [b"mask"],
            "given_reference_bytes": [[b"one", b"two"]],
        }
    )

    (row,) = catalogue.rows(a_recipe(), table, None)

    assert (row["status"], row["source_uri"]) == ("ok", None)
    assert (row["given_image_bytes"], row["given_mask_bytes"]) == (b"picture", b"mask")
    assert row["given_reference_bytes"] == [b"one", b"two"]
    assert row["columns"] == {"sku": "1", "category": "mug", "colour": "red"}
