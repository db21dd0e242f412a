"""Product tables as files, values as the file has them."""

from __future__ import annotations

import json

import pytest

from pipelines import catalogue, recipe
from pipelines.catalogue.tables import parse
from pipelines.errors import ConfigError
from tests.catalogue.given import words_of


@pytest.fixture
def settings() -> recipe.CatalogueSettings:
    return recipe.CatalogueSettings()


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
