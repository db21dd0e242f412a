"""The files that rows name, from few listings."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines import catalogue, rows, storage
from pipelines.catalogue import listings
from pipelines.errors import StorageError
from tests.catalogue.given import a_recipe


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
