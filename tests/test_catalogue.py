"""Which items exist, and what is said when a catalogue cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import catalogue, recipe, rows, storage
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
        (
            "mixed.jsonl",
            b'{"sku": 1, "image": "a"}\n{"sku": "x", "image": "b"}\n',
            "'sku' holds values of several kinds",
        ),
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
        ({"sku": ["1", None, "3", " ", "5"]}, r"2 of 5 items .* have no key .* first in row 2"),
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


def test_files_of_many_folders_come_from_one_listing(bucket, monkeypatch):
    monkeypatch.setattr(catalogue, "MAX_LISTINGS", 2)
    names = [f"img/{folder}/a.jpg" for folder in "xyz"]
    for name in names:
        storage.write(f"s3://{bucket}/cat/{name}", name.encode())
    table = a_table(sku=["1", "2", "3"], image=names, category=["mug"] * 3, colour=["red"] * 3)

    found = catalogue.files_of(a_recipe(), table, f"s3://{bucket}/cat")

    assert sorted(found) == [f"s3://{bucket}/cat/{name}" for name in names]


def test_pictures_that_are_not_there_are_left_out_and_a_bucket_must_be(s3, tmp_path):
    table = a_table(image=[str(tmp_path / "nowhere" / "a.jpg"), str(tmp_path / "b.jpg")])

    assert catalogue.files_of(a_recipe(), table, None) == {}
    with pytest.raises(StorageError, match="'no-such-bucket' does not exist"):
        catalogue.files_of(a_recipe(), a_table(), "s3://no-such-bucket/cat")


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
    assert first["paint_prompts"] == ["a red shirt", "Tee: 3.0", "a red shirt"]
    assert second["paint_prompts"] == ["a blue mug", "Cup: 4.5", "a blue mug"]
    assert second["negative_prompt"] == "no blue"
    assert second["source_uri"] == "/data/b.jpg"
    assert second["columns"]["price"] == "4.5"


def test_every_row_has_every_column_and_fits_its_schema():
    every = {**rows.CATALOGUE_COLUMNS, **rows.OUTCOME_COLUMNS}

    made = catalogue.rows(a_recipe(), a_table(when=pa.array([0, None], pa.timestamp("s"))), None)

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
    ],
)
def test_a_row_that_lacks_a_value_fails_alone(columns, sections, words):
    good, bad = catalogue.rows(a_recipe(**sections), a_table(**columns), None)

    assert (good["status"], good["reason"]) == ("ok", None)
    assert (bad["status"], bad["reason"], bad["node"]) == ("failed", "missing_value", None)
    assert words in bad["detail"]


def test_a_path_that_leads_out_is_told_with_its_row():
    with pytest.raises(ConfigError, match=r"column 'image', row 2: .*segment"):
        catalogue.rows(a_recipe(), a_table(image=["a.jpg", "../b.jpg"]), "s3://b/cat")


def test_seeds_come_from_the_table_before_the_recipe():
    seeded = a_recipe(paint={"variants": 2, "seeds": [5, 6], "seed_by": "sku"})

    first, second = catalogue.rows(seeded, a_table(given_seeds=[[1, 2], None]), None)

    assert (first["given_seeds"], second["given_seeds"]) == ([1, 2], [5, 6])
    assert second["seed_basis"] == "2"
    with pytest.raises(ConfigError, match="row 1 has given_seeds"):
        catalogue.rows(seeded, a_table(given_seeds=[[1], None]), None)
    with pytest.raises(ConfigError, match="expected a list of integers"):
        catalogue.rows(seeded, a_table(given_seeds=["1", "2"]), None)


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
