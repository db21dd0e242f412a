"""Which items exist, and what is said when a catalogue cannot be used."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import catalogue, recipe, rows, storage
from pipelines.catalogue import listings
from pipelines.catalogue.tables import parse
from pipelines.errors import ConfigError, StorageError

ITEMS = {"sku": ["1", "2"], "image": ["a.jpg", "b.jpg"], "category": ["shirt", "mug"], "colour": ["red", "blue"]}


def a_recipe(**sections: Any) -> recipe.Recipe:
    return recipe.parse(
        {"name": "test", "models": "embedded", "prompts": {"paint": "a {colour} {category}"}} | sections
    )


def a_table(**columns: Any) -> pa.Table:
    return pa.table(ITEMS | columns)


@pytest.fixture
def settings() -> recipe.CatalogueSettings:
    return recipe.CatalogueSettings()


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.csv", b""), ("header.csv", b"sku,image\n"), ("empty.jsonl", b"\n")],
)
def test_a_table_without_rows_is_refused(tmp_path, settings, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError, match="has no rows, so there are no items"):
        catalogue.open_catalogue(str(tmp_path / name), settings)


def test_a_folder_without_pictures_is_refused(tmp_path, settings):
    (tmp_path / "readme.txt").write_text("no picture")

    with pytest.raises(ConfigError, match="holds no pictures, so there are no items"):
        catalogue.open_catalogue(str(tmp_path), settings)


def test_a_table_that_is_not_there_is_told(tmp_path, settings):
    with pytest.raises(ConfigError, match="there is no product table"):
        catalogue.open_catalogue(str(tmp_path / "gone.parquet"), settings)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("not.parquet", b"sku,image\n", "cannot be read as what its name says"),
        ("latin.csv", "sku,image\n1,\u00e9.jpg\n".encode("latin-1"), "cannot be read"),
        ("ragged.csv", b"sku,image\n1,a.jpg,more\n", "cannot be read"),
        ("broken.jsonl", b'{"sku": "1", "image": "a.jpg"}\n{"sku": \n', "line 2 is not JSON"),
        ("list.jsonl", b"[1]\n", "line 1 is a list"),
        ("deep.jsonl", b'{"sku": ' + b"[" * 100_000, "line 1 is not JSON"),
        ("half.jsonl", b'{"sku": "\\ud800"}', "'sku' holds half of a surrogate pair"),
    ],
)
def test_a_table_that_cannot_be_parsed_is_told(tmp_path, settings, name, content, words):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError, match=words):
        catalogue.open_catalogue(str(tmp_path / name), settings)


def test_csv_keeps_zeros_words_and_line_breaks(tmp_path, settings):
    text = '\ufeffsku,image,note\r\n00123,a.jpg,NA\r\n00124,b.jpg,"two\nlines; one"\r\n1e5,c.jpg,\r\n'
    (tmp_path / "table.csv").write_bytes(text.encode())

    opened = catalogue.open_catalogue(str(tmp_path / "table.csv"), settings)

    assert opened.table.to_pydict() == {
        "sku": ["00123", "00124", "1e5"],
        "image": ["a.jpg", "b.jpg", "c.jpg"],
        "note": ["NA", "two\nlines; one", None],
    }


def test_csv_with_semicolons_is_read(tmp_path, settings):
    (tmp_path / "table.csv").write_text("sku;image\n007;a,b.jpg\n")

    opened = catalogue.open_catalogue(str(tmp_path / "table.csv"), settings)

    assert opened.table.to_pylist() == [{"sku": "007", "image": "a,b.jpg"}]


def test_jsonl_keeps_texts_and_fills_in_nulls(tmp_path, settings):
    lines = [{"sku": "007", "image": "a.jpg", "day": "2024-01-01"}, {"sku": "008", "image": "b.jpg", "tags": ["x"]}]
    (tmp_path / "table.jsonl").write_text("\n".join(json.dumps(line) for line in lines))

    opened = catalogue.open_catalogue(str(tmp_path / "table.jsonl"), settings)

    assert opened.table.column("day").to_pylist() == ["2024-01-01", None]
    assert opened.table.column("tags").to_pylist() == [None, ["x"]]


def test_parquet_says_whether_it_is_the_sample(tmp_path, settings):
    pq.write_table(a_table(), tmp_path / "own.parquet")
    pq.write_table(a_table().replace_schema_metadata({"packshot_sample": "1"}), tmp_path / "sample.parquet")

    assert not catalogue.open_catalogue(str(tmp_path / "own.parquet"), settings).is_sample
    assert catalogue.open_catalogue(str(tmp_path / "sample.parquet"), settings).is_sample


def test_limit_takes_the_first_items(tmp_path, settings):
    pq.write_table(a_table(), tmp_path / "table.parquet")
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")

    assert catalogue.open_catalogue(str(tmp_path / "table.parquet"), settings, 1).table.num_rows == 1
    assert catalogue.open_catalogue(str(tmp_path), settings, 1).table.num_rows == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"sku": ["1", "1", "2", "2", "3"]}, r"more than once: '1' \(2 times\), '2' \(2 times\); name a column"),
        ({"sku": ["", None, "", " ", ""]}, r"no item .* has a key \(`catalogue.key` is 'sku'\)"),
        (
            {"skus": list("12345")},
            r"`catalogue.key` names the column 'sku', .*; did you mean 'skus'\? it has: image, skus",
        ),
        (
            {"sku": list("12345"), "image": None, "img": ["a"] * 5},
            r"`catalogue.image` names the column 'image'.*: sku, img",
        ),
    ],
)
def test_keys_and_columns_are_checked_at_once(tmp_path, settings, columns, words):
    columns = {"image": [f"{number}.jpg" for number in range(5)]} | columns
    pq.write_table(pa.table({name: values for name, values in columns.items() if values}), tmp_path / "table.parquet")

    with pytest.raises(ConfigError, match=words):
        catalogue.open_catalogue(str(tmp_path / "table.parquet"), settings)


def test_a_column_that_is_there_twice_is_refused(tmp_path, settings):
    (tmp_path / "table.csv").write_text("sku,image,sku\n1,a.jpg,2\n")

    with pytest.raises(ConfigError, match="has the column 'sku' twice"):
        catalogue.open_catalogue(str(tmp_path / "table.csv"), settings)


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "cat")
    return f"s3://{request.getfixturevalue('bucket')}/cat"


def test_pictures_of_a_prefix_are_items_by_their_path(folder):
    for name in ("b.PNG", "deep/a é.jpeg", "notes.txt", "c.webp"):
        storage.write(storage.join(folder, name), b"x")
    storage.write(f"{folder}alogue/other.jpg", b"x")

    made, is_sample = catalogue.product_rows(folder + "/", a_recipe(prompts={"find": "shirt", "paint": "a shirt"}))

    assert [row["item_key"] for row in made] == ["b.PNG", "c.webp", "deep/a é.jpeg"]
    assert [row["source_uri"] for row in made] == [storage.join(folder, row["item_key"]) for row in made]
    assert all(storage.read(row["source_uri"], row["source_version"]) == b"x" for row in made)
    assert not is_sample


def test_table_and_pictures_are_found_with_their_versions(folder):
    for name in ("a.jpg", "img/b.jpg", "masks/a.png"):
        storage.write(storage.join(folder, name), name.encode())
    sink = pa.BufferOutputStream()
    columns = {"image": ["a.jpg", "img/b.jpg"], "mask": ["masks/a.png", None], "look": [["a.jpg", "gone.jpg"], []]}
    pq.write_table(a_table(**columns), sink)
    storage.write(storage.join(folder, "table.parquet"), sink.getvalue().to_pybytes())
    wanted = a_recipe(catalogue={"mask": "mask", "references": "look"})

    (first, second), _ = catalogue.product_rows(storage.join(folder, "table.parquet"), wanted)

    assert storage.read(first["source_uri"], first["source_version"]) == b"a.jpg"
    assert storage.read(second["source_uri"], second["source_version"]) == b"img/b.jpg"
    assert storage.read(first["mask_uri"], first["mask_version"]) == b"masks/a.png"
    assert (second["mask_uri"], second["mask_version"]) == (None, None)
    assert first["reference_uris"] == [storage.join(folder, "a.jpg"), storage.join(folder, "gone.jpg")]
    assert first["reference_versions"] == [first["source_version"], None]
    assert (second["reference_uris"], second["reference_versions"]) == (None, None)


def some_rows(*uris: str) -> list[dict[str, Any]]:
    empty = dict.fromkeys(rows.CATALOGUE_COLUMNS)
    return [{**empty, "source_uri": uri} for uri in uris]


def test_files_of_many_folders_come_from_few_listings_that_spare_the_neighbours(bucket, monkeypatch):
    monkeypatch.setattr(listings, "MAX_LISTINGS", 2)
    names = [f"shop/img/{folder}/a.jpg" for folder in "xyz"] + ["extra/b.jpg"]
    uris = [f"s3://{bucket}/{name}" for name in names]
    for uri in (*uris, f"s3://{bucket}/renders/c.jpg"):
        storage.write(uri, b"x")
    asked = []
    monkeypatch.setattr(
        storage, "list_files", lambda *one, listed=storage.list_files: asked.append(one) or listed(*one)
    )

    found = catalogue.files_of(some_rows(*uris), f"s3://{bucket}")

    assert sorted(found.files) == sorted(uris)
    assert sorted(asked) == [(f"s3://{bucket}/extra", False), (f"s3://{bucket}/shop/img", True)]


def test_a_picture_that_is_not_there_is_left_out_and_the_catalogues_bucket_must_be(s3, tmp_path):
    gone = some_rows(str(tmp_path / "nowhere" / "a.jpg"), str(tmp_path / "b.jpg"))

    assert catalogue.files_of(gone, str(tmp_path)) == catalogue.Listed({}, {})
    with pytest.raises(StorageError, match="'no-such-bucket' does not exist"):
        catalogue.files_of(some_rows("s3://no-such-bucket/cat/img/a.jpg"), "s3://no-such-bucket/cat")


def test_a_row_of_an_allowed_bucket_that_does_not_exist_fails_alone(bucket):
    storage.write(f"s3://{bucket}/a.jpg", b"x")
    lines = ["sku,image,category,colour", "1,a.jpg,mug,red", "2,s3://no-such-bucket/b.jpg,mug,red"]
    storage.write(f"s3://{bucket}/table.csv", "\n".join(lines).encode())

    made = catalogue.products(f"s3://{bucket}/table.csv", a_recipe(catalogue={"allow": ["s3://no-such-bucket"]}))

    assert [(row["status"], row["reason"]) for row in made.rows] == [("ok", None), ("failed", "folder_unreadable")]
    assert "'no-such-bucket' does not exist" in made.rows[1]["detail"]


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
    back = rows.to_table(made, rows.schema(every)).to_pylist()
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
    rows.to_table([good, bad], rows.schema(rows.CATALOGUE_COLUMNS))
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


@pytest.mark.parametrize("column", ["given_image_bytes", "given_mask_bytes", "given_reference_bytes"])
def test_a_product_table_cannot_bring_pictures_along(tmp_path, settings, column):
    pq.write_table(a_table(**{column: [b"x", None]}), tmp_path / "table.parquet")

    with pytest.raises(ConfigError, match=f"has the column '{column}', which comes with a request"):
        catalogue.open_catalogue(str(tmp_path / "table.parquet"), settings)


def words_of(values: pa.Array) -> list[str | None]:
    table = pa.table(
        {"sku": [str(number) for number in range(len(values))], "image": ["a.jpg"] * len(values), "x": values}
    )
    wanted = a_recipe(prompts={"find": "mug", "paint": "a mug"}, catalogue={"keep_columns": ["x"]})
    return [row["columns"]["x"] for row in catalogue.rows(wanted, table, "/data")]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pa.array([7, None]), ["7", None]),
        (pa.array([7.0, 8.5, float("nan"), None, -0.0, 1e300]), ["7", "8.5", None, None, "0", "1e+300"]),
        (pa.array([0.1, 16777216.0, 2.5], pa.float32()), ["0.1", "16777216", "2.5"]),
        (pa.array([float("inf")]), ["inf"]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array([Decimal("7.00"), Decimal("8.50")]), ["7.00", "8.50"]),
        (pa.array([19000], pa.date32()), ["2022-01-08"]),
        (pa.array([0], pa.timestamp("ns")), ["1970-01-01 00:00:00"]),
        (pa.array([0], pa.timestamp("us", tz="UTC")), ["1970-01-01 00:00:00+00:00"]),
        (pa.array([1 << 62], pa.timestamp("s")), None),
        (pa.array(["a"]).dictionary_encode(), ["a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array([{"a": 1}]), ["{'a': 1}"]),
    ],
)
def test_a_value_has_the_form_that_it_has_alone(values, words):
    made = words_of(values)

    assert made == words if words is not None else all(made)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["7", "8"], ["7", "8"]),
        (["7", "8.5"], ["7", "8.5"]),
        (["7.0", "8"], ["7.0", "8"]),
        (["7", '"x"'], ["7", "x"]),
        (["7", "NaN", "null"], ["7", None, None]),
        (["7", "1" * 30], ["7", "1" * 30]),
        (["true", "7"], ["True", "7"]),
        (['["x"]', "[]"], ["['x']", "[]"]),
        (['{"en": "x"}', '"y"'], ['{"en": "x"}', "y"]),
        (["[1]", "[2.5]"], ["[1]", "[2.5]"]),
    ],
)
def test_a_value_of_a_json_line_has_the_form_that_it_has_alone(lines, words):
    data = "\n".join(f'{{"x": {line}}}' for line in lines).encode()

    assert words_of(parse(data, "table.jsonl")["x"]) == words


def test_seeds_come_from_the_table_before_the_recipe():
    seeded = a_recipe(paint={"variants": 2, "seeds": [5, 6], "seed_by": "sku"})

    first, second = catalogue.rows(seeded, a_table(given_seeds=[[1, 2], None]), "/data")
    written = catalogue.rows(seeded, a_table(given_seeds=["1, 2", ""]), "/data")

    assert (first["given_seeds"], second["given_seeds"]) == ([1, 2], [5, 6])
    assert second["seed_basis"] == "2"
    assert [row["given_seeds"] for row in written] == [[1, 2], [5, 6]]


@pytest.mark.parametrize("seeds", [[1], [1, -2], [1, None], [1, 2**63], "1", "one, two", "[[1, 2]]", 7])
def test_seeds_that_do_not_fit_are_their_row_alone(seeds):
    kind = pa.list_(pa.uint64()) if isinstance(seeds, list) and max(filter(None, seeds)) >= 2**63 else None
    good = None if not isinstance(seeds, str) else ""
    table = a_table(given_seeds=pa.array([good, seeds], kind))

    first, second = catalogue.rows(a_recipe(paint={"variants": 2}), table, "/data")

    assert (first["status"], first["given_seeds"]) == ("ok", None)
    assert (second["reason"], second["given_seeds"]) == ("bad_value", None)
    assert "expected 2 integers, one a variant, from 0 to 9223372036854775807" in second["detail"]


@pytest.mark.parametrize("seeds", [[2**63], [-1]])
def test_seeds_of_a_recipe_fit_the_manifest(seeds):
    with pytest.raises(ConfigError, match=r"paint.seeds"):
        a_recipe(paint={"variants": 1, "seeds": seeds})


@pytest.mark.parametrize(
    ("column", "cell", "places"),
    [
        ("given_boxes_xyxy", "10,20,110,220", [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", " 10 20.5  110, 220 ", [[10, 20.5, 110, 220]]),
        ("given_boxes_xyxy", "[10, 20, 110, 220]", [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", "[[10,20,110,220], [0,0,5,5]]", [[10, 20, 110, 220], [0, 0, 5, 5]]),
        ("given_boxes_xyxy", [[10.0, 20.0, 110.0, 220.0]], [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", [10, 20, 110, 220], [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", " ", None),
        ("given_points", "60,120,1", [[60, 120, 1]]),
        ("given_points", "[[60,120,1],[3,4,0]]", [[60, 120, 1], [3, 4, 0]]),
    ],
)
def test_a_place_may_be_a_list_or_text(column, cell, places):
    (row,) = catalogue.rows(a_recipe(), a_table(**{column: [cell, None]}).slice(0, 1), "/data")

    assert (row["status"], row[column]) == ("ok", places)
    rows.to_table([row], rows.schema(rows.CATALOGUE_COLUMNS))


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("given_boxes_xyxy", [[1.0, 2.0, 3.0]]),
        ("given_boxes_xyxy", [[50.0, 40.0, 10.0, 5.0]]),
        ("given_boxes_xyxy", [[float("nan")] * 4]),
        ("given_boxes_xyxy", [[0.0, 0.0, 1e30, 5.0]]),
        ("given_boxes_xyxy", [[0, None, 3, 4]]),
        ("given_boxes_xyxy", 7.5),
        ("given_boxes_xyxy", {"left": 1}),
        ("given_boxes_xyxy", "x"),
        ("given_boxes_xyxy", "10,20,110"),
        ("given_boxes_xyxy", f"[[{'9' * 400},2,3,4]]"),
        ("given_boxes_xyxy", "[" * 100_000),
        ("given_boxes_xyxy", "[[1,2,3,4], 5]"),
        ("given_points", [[50.0, 40.0]]),
        ("given_points", "50,40"),
        ("given_points", "50,40,2"),
    ],
)
def test_a_place_that_cannot_be_is_its_row_alone(column, cell):
    good, bad = catalogue.rows(a_recipe(), a_table(**{column: [None, cell]}), "/data")

    assert good["status"] == "ok"
    assert (bad["status"], bad["reason"], bad[column]) == ("failed", "bad_value", None)
    assert f"column {column!r} holds" in bad["detail"]
    assert len(bad["detail"]) < 600


def test_a_catalogue_may_be_named_from_the_folder_beside(tmp_path, settings, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "two.csv").write_text("sku,image\n1,a.jpg\n")
    monkeypatch.chdir(tmp_path / "here")

    opened = catalogue.open_catalogue("../two.csv", settings)

    assert opened.base_uri == str(tmp_path)


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
