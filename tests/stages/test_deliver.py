import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipelines.pixels.images import decode, encode
from pipelines.pixels.jpeg_blocks import changed_blocks, decoded_reach, read_source
from pipelines.pixels.masks import to_rle
from pipelines.pixels.proof import prove
from pipelines.recipe.settings import DeliverSettings
from pipelines.stages.deliver import Deliver
from pipelines.storage import Store
from tests.fakes import a_picture

SOURCE = a_picture(5, (150, 130))
ALLOW = np.zeros((130, 150), bool)
ALLOW[40:90, 50:100] = True
REGION = [30, 20, 126, 116]


def a_row(kept=(True, False), source="png"):
    crops = [np.full((64, 64, 3), value, np.uint8).tobytes() for value in (10, 240)]
    return {
        "image_bytes": encode(SOURCE, source),
        "allow_mask_rle": to_rle(ALLOW),
        "repaint_mask_rle": to_rle(ALLOW),
        "regions_xyxy": [REGION],
        "finished_crops": crops,
        "paint_prompts": ["a red mug"] * 2,
        "variant_kept": list(kept),
    }


def deliver(store=None, kept=(True, False), source="png", **settings):
    (update,) = Deliver(DeliverSettings(**settings), store)([a_row(kept, source)])
    return update


@pytest.mark.parametrize("form", ["png", "webp"])
def test_delivered_file_is_the_source_outside_and_painted_inside(form):
    update = deliver(format=form, feather_px=0)

    made = decode(update["image_files"][0]).rgb
    assert prove(SOURCE, made, ALLOW).changed_outside == 0 == update["changed_outside"][0]
    assert (made[ALLOW] == 10).all()
    assert update["image_files"][1] is None
    assert update["changed_outside"][1] is None


def test_jpeg_is_delivered_inexactly_and_its_changes_are_counted():
    update = deliver(format="jpeg", exact=False)

    made = decode(update["image_files"][0]).rgb
    assert update["changed_outside"][0] == prove(SOURCE, made, ALLOW).changed_outside > 0
    assert update["exactness"] == ["none", None]


def test_quality_is_of_the_jpeg_that_is_encoded_anew():
    poor, usual, same = (
        deliver(format="jpeg", exact=False, **asked) for asked in ({"quality": 20}, {}, {"quality": 95})
    )

    (small, _), (large, _), (again, _) = (one["image_files"] for one in (poor, usual, same))
    assert len(small) < len(large)
    assert large == again
    assert poor["changed_outside"][0] > usual["changed_outside"][0]


def test_quality_has_no_effect_on_an_exact_file():
    for of in ({"format": "jpeg", "source": "jpeg"}, {"format": "webp"}, {"format": "png"}):
        assert deliver(**of, quality=20)["image_files"] == deliver(**of)["image_files"]


def test_exact_jpeg_keeps_untouched_blocks_and_is_a_png_where_there_are_none():
    kept, made_anew = deliver(format="jpeg", source="jpeg"), deliver(format="jpeg", source="png")

    before, after = encode(SOURCE, "jpeg"), kept["image_files"][0]
    assert (kept["image_formats"], kept["exactness"]) == (["jpeg", None], ["blocks", None])
    assert changed_blocks(read_source(before), after, ALLOW) == 0 == kept["changed_outside"][0]
    assert prove(decode(before).rgb, decode(after).rgb, decoded_reach(read_source(before), ALLOW)).changed_outside == 0
    assert (decode(after).rgb[50:80, 60:90] < 30).all()
    assert (made_anew["image_formats"][0], made_anew["exactness"][0]) == ("png", "pixels")


def test_item_with_nothing_kept_is_rejected_and_its_crops_are_stored(tmp_path):
    update = deliver(Store(str(tmp_path)), kept=(False, False))

    assert update["reason"] == "nothing_kept"
    assert update["image_uris"] == [None, None]
    assert all("/variants/" in uri for uri in update["crop_uris"])


def test_pictures_lie_at_the_hash_of_their_bytes_and_doing_it_again_rewrites_nothing(tmp_path):
    store = Store(str(tmp_path))

    update = deliver(store)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = deliver(store)

    assert again == update
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files
    for uri in [update["image_uris"][0], *update["crop_uris"]]:
        assert hashlib.sha256(Path(uri).read_bytes()).hexdigest() in uri
    assert "/crops/" in update["crop_uris"][0]
    assert "/variants/" in update["crop_uris"][1]


def test_delivered_picture_says_that_it_was_made_by_a_model():
    assert b"compositeWithTrainedAlgorithmicMedia" in deliver()["image_files"][0]


def test_alpha_and_colour_profile_of_the_source_come_back():
    alpha = np.full((130, 150), 200, np.uint8)
    row = {**a_row(), "image_bytes": encode(SOURCE, "png", alpha=alpha)}

    (update,) = Deliver(DeliverSettings())([row])

    np.testing.assert_array_equal(decode(update["image_files"][0]).alpha, alpha)
