"""What is a catalogue, and what is said of one that cannot be opened."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import catalogue, recipe, storage
from pipelines.errors import ConfigError
from tests.catalogue.given import a_recipe, a_table


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


@pytest.mark.parametrize("column", ["given_image_bytes", "given_mask_bytes", "given_reference_bytes"])
def test_a_product_table_cannot_bring_pictures_along(tmp_path, settings, column):
    pq.write_table(a_table(**{column: [b"x", None]}), tmp_path / "table.parquet")

    with pytest.raises(ConfigError, match=f"has the column '{column}', which comes with a request"):
        catalogue.open_catalogue(str(tmp_path / "table.parquet"), settings)


def test_a_catalogue_may_be_named_from_the_folder_beside(tmp_path, settings, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "two.csv").write_text("sku,image\n1,a.jpg\n")
    monkeypatch.chdir(tmp_path / "here")

    opened = catalogue.open_catalogue("../two.csv", settings)

    assert opened.base_uri == str(tmp_path)
