"""The sample catalogue: good rows that ask for what is there, and two honest problems."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from sample_world.drawing.catalogue import SCHEMA, write_sample_catalogue
from sample_world.drawing.scenes import CATALOGUE_SEED, scene


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return write_sample_catalogue(tmp_path_factory.mktemp("catalogue"), count=6)


def rows_of(path):
    return pq.read_table(path).to_pylist()


def upright(path, row):
    with Image.open(path.parent / row["image"]) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def test_no_products_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="expected at least 1"):
        write_sample_catalogue(tmp_path, count=0)


def test_the_table_says_that_it_is_a_sample(catalogue):
    schema = pq.read_schema(catalogue)

    assert schema.metadata[b"packshot_sample"] == b"1"
    assert schema.names == SCHEMA.names


def test_two_problem_rows_follow_the_good_ones(catalogue):
    rows = rows_of(catalogue)

    assert len(rows) == 8
    assert len({row["sku"] for row in rows}) == 8
    for row in rows[:7]:
        upright(catalogue, row)
    with pytest.raises(OSError, match="truncated"):
        upright(catalogue, rows[7])


def test_a_quarter_is_large_and_every_second_of_these_lies_on_its_side(catalogue):
    rows = rows_of(catalogue)
    large = [row for row in rows[:6] if upright(catalogue, row).size == (1600, 2000)]
    stored = [Image.open(catalogue.parent / row["image"]) for row in large]

    assert [row["sku"] for row in large] == ["SAMPLE-0001", "SAMPLE-0005"]
    assert [image.size for image in stored] == [(1600, 2000), (2000, 1600)]
    assert [image.getexif().get(0x0112) for image in stored] == [None, 6]


def test_a_turned_picture_stands_upright_when_its_orientation_is_obeyed(catalogue):
    picture = np.asarray(upright(catalogue, rows_of(catalogue)[5]), np.int32)

    drawn = (scene(seed, (1600, 2000)).rgb for seed in range(CATALOGUE_SEED + 500, CATALOGUE_SEED + 510))

    assert any(np.abs(picture - rgb).mean() < 4 for rgb in drawn)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    def hashes(folder: Path):
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.*"))}

    write_sample_catalogue(tmp_path / "one", count=1)
    write_sample_catalogue(tmp_path / "two", count=1)

    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
