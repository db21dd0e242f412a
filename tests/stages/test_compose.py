import numpy as np
import pytest

from pipelines.pixels.crops import from_raw
from pipelines.pixels.masks import to_rle
from pipelines.recipe.settings import ComposeSettings
from pipelines.stages.compose import Compose
from tests.fakes import a_picture

SOURCE = a_picture(4, (64, 64))
ALLOW = np.zeros((64, 64), bool)
ALLOW[20:40, 20:40] = True
REPAINT = np.zeros((64, 64), bool)
REPAINT[18:42, 18:42] = True


def composed(painted, **settings):
    row = {
        "allow_mask_rle": to_rle(ALLOW),
        "repaint_mask_rle": to_rle(REPAINT),
        "regions_xyxy": [[0, 0, 64, 64]],
        "region_rgb": [SOURCE.tobytes()],
        "variant_crops": [painted.tobytes()],
    }
    (update,) = Compose(ComposeSettings(**settings))([row])
    return from_raw(update["finished_crops"][0]), update


def test_finished_crop_is_the_source_outside_the_allow_mask():
    finished, _ = composed(np.full((64, 64, 3), 9, np.uint8))

    np.testing.assert_array_equal(finished[~ALLOW], SOURCE[~ALLOW])


def test_tone_step_is_measured_on_the_ring_and_taken_back():
    brighter = np.clip(SOURCE.astype(int) + 10, 0, 255).astype(np.uint8)

    finished, update = composed(brighter, feather_px=0)
    as_it_came, _ = composed(brighter, feather_px=0, colour_fit=False)

    assert update["ring_errors_before"][0] == pytest.approx(10, abs=1)
    assert update["ring_errors_after"][0] < 1.5
    np.testing.assert_allclose(finished[ALLOW].astype(int), SOURCE[ALLOW].astype(int), atol=2)
    np.testing.assert_array_equal(as_it_came[ALLOW], brighter[ALLOW])
