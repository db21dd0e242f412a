import hashlib

import numpy as np
import pytest

from pipelines.pixels.images import encode
from pipelines.pixels.masks import from_rle
from pipelines.recipe.settings import ReadSettings
from pipelines.rows import CATALOGUE_COLUMNS, ItemError
from pipelines.stages.read import Read
from tests.fakes import a_picture

PICTURE = encode(a_picture(1, (40, 30)), "png")


def a_row(**values):
    return {**dict.fromkeys(CATALOGUE_COLUMNS), "item_key": "a", **values}


def read_one(settings=None, **values):
    (answer,) = Read(settings or ReadSettings())([a_row(**values)])
    return answer


def test_no_rows_read_nothing():
    assert Read(ReadSettings())([]) == []


def test_picture_keeps_its_bytes_and_tells_hash_and_size(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)

    made = read_one(source_uri=str(tmp_path / "a.png"))

    assert made["image_bytes"] == PICTURE
    assert made["source_sha256"] == hashlib.sha256(PICTURE).hexdigest()
    assert made["size_wh"] == [40, 30]
    assert (made["given_mask_rle"], made["reference_bytes"], made["finished_crops"]) == (None, [], None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not_an_image"), (b"hello", "not_an_image"), (PICTURE[: len(PICTURE) // 2], "truncated_image")],
)
def test_file_that_cannot_be_a_picture_is_an_error_with_its_reason(content, reason):
    answer = read_one(given_image_bytes=content)

    assert isinstance(answer, ItemError)
    assert answer.reason == reason


def test_limits_are_told_before_anything_is_decoded():
    assert read_one(ReadSettings(max_bytes=10), given_image_bytes=PICTURE).reason == "too_many_bytes"
    assert read_one(ReadSettings(max_pixels=100), given_image_bytes=PICTURE).reason == "too_many_pixels"


def test_picture_that_went_or_changed_since_the_plan_is_told_apart(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)

    assert read_one(source_uri=str(tmp_path / "gone.png")).reason == "source_missing"
    assert read_one(source_uri=str(tmp_path / "a.png"), source_version="1-1").reason == "source_changed"


def test_given_mask_is_repainted_where_it_is_white():
    mask = np.zeros((30, 40, 3), np.uint8)
    mask[5:10, 6:12] = 255

    made = read_one(given_image_bytes=PICTURE, given_mask_bytes=encode(mask, "png"))

    np.testing.assert_array_equal(from_rle(made["given_mask_rle"]), mask[..., 0] > 0)


def test_mask_of_another_size_is_refused_with_both_sizes():
    answer = read_one(given_image_bytes=PICTURE, given_mask_bytes=encode(np.zeros((8, 8, 3), np.uint8), "png"))

    assert answer.reason == "mask_size_differs"
    assert "8 x 8" in answer.detail
    assert "40 x 30" in answer.detail


def test_every_reference_comes_along_and_a_bad_one_is_named():
    assert (
        read_one(given_image_bytes=PICTURE, given_reference_bytes=[PICTURE, PICTURE])["reference_bytes"]
        == [PICTURE] * 2
    )
    assert read_one(given_image_bytes=PICTURE, given_reference_bytes=[b"no"]).reason == "reference_unreadable"


def test_a_rows_references_are_bounded_in_number_and_in_bytes_together(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(PICTURE)
    uris = [str(tmp_path / f"{number}.png") for number in range(3)]
    enough = ReadSettings(max_references=3, max_reference_bytes=3 * len(PICTURE))
    few, light = ReadSettings(max_references=2), ReadSettings(max_reference_bytes=3 * len(PICTURE) - 1)

    for row in ({"reference_uris": uris}, {"given_reference_bytes": [PICTURE] * 3}):
        assert read_one(enough, given_image_bytes=PICTURE, **row)["reference_bytes"] == [PICTURE] * 3
        too_many, too_heavy = (read_one(settings, given_image_bytes=PICTURE, **row) for settings in (few, light))
        assert (too_many.reason, too_heavy.reason) == ("too_many_references",) * 2
        assert too_many.detail == "3 references; `read.max_references` is 2"
        assert f"`read.max_reference_bytes`, {3 * len(PICTURE) - 1}, together" in too_heavy.detail


def test_reference_that_is_too_large_by_itself_is_told_as_such():
    answer = read_one(
        ReadSettings(max_bytes=len(PICTURE)), given_image_bytes=PICTURE, given_reference_bytes=[PICTURE + b"."]
    )

    assert answer.reason == "too_many_bytes"


def test_row_that_starts_at_judge_brings_its_stored_crops(tmp_path):
    crop = a_picture(2, (64, 64))
    (tmp_path / "crop.png").write_bytes(encode(crop, "png"))
    row = {"given_image_bytes": PICTURE, "start_at": "judge", "crop_uris": [str(tmp_path / "crop.png")]}

    assert read_one(**row)["finished_crops"] == [crop.tobytes()]
    assert read_one(**{**row, "crop_uris": [str(tmp_path / "expired.png")]}).reason == "crop_missing"


def test_bad_row_leaves_its_neighbours_alone():
    answers = Read(ReadSettings())(
        [a_row(given_image_bytes=PICTURE), a_row(given_image_bytes=b""), a_row(given_image_bytes=PICTURE)]
    )

    assert [isinstance(answer, ItemError) for answer in answers] == [False, True, False]
