import numpy as np
import pytest

from pipelines.pixels.paste_backs import TOOLS, compare, packshot
from pipelines.pixels.proof import prove

SOURCE = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
PAINTED = np.clip(SOURCE.astype(int) + 9, 0, 255).astype(np.uint8)  # a little off everywhere, as an autoencoder is
PAINTED[:] = np.where(PAINTED == SOURCE, 255 - SOURCE, PAINTED)
MASK = np.zeros((128, 128), bool)
MASK[40:90, 40:90] = True


EXACT = {"Packshot", "diffusers `apply_overlay`, binary"}
INEXACT = [name for name in TOOLS if name not in EXACT]


def test_no_pictures_no_figures():
    assert [one.shares for one in compare([])] == [()] * len(TOOLS)
    assert [one.shares for one in compare([(SOURCE, PAINTED, np.ones_like(MASK))])] == [()] * len(TOOLS)


def test_packshot_changes_nothing_outside_and_paints_inside():
    made = packshot(SOURCE, PAINTED, MASK)

    assert prove(SOURCE, made, MASK).changed_outside == 0
    np.testing.assert_array_equal(made[55:75, 55:75], PAINTED[55:75, 55:75])


@pytest.mark.parametrize("tool", INEXACT)
def test_every_other_default_reaches_outside_the_mask(tool):
    assert prove(SOURCE, TOOLS[tool](SOURCE, PAINTED, MASK), MASK).changed_outside > 0


def test_table_counts_each_tool_on_the_same_pictures():
    measured = {one.tool: one for one in compare([(SOURCE, PAINTED, MASK)] * 3)}

    plain = measured["none (plain pipeline)"]
    assert plain.shares == (1, 1, 1)
    assert plain.largest == np.abs(PAINTED.astype(int) - SOURCE)[~MASK].max()
    assert plain.reach_px == np.hypot(40, 40)
    assert {
        tool for tool, one in measured.items() if not any(one.shares) and not one.largest and not one.reach_px
    } == EXACT


def test_wider_blurs_reach_further():
    reach_px = {one.tool: one.reach_px for one in compare([(SOURCE, PAINTED, MASK)])}

    assert 0 < reach_px["A1111, mask blur 4"] <= 10 * np.sqrt(2)
    assert 0 < reach_px["IOPaint, mask blur 11"] <= 11 * np.sqrt(2)
    assert reach_px["diffusers `apply_overlay`, blur 4"] < reach_px["diffusers `apply_overlay`, blur 33"]


@pytest.mark.parametrize("tool", list(TOOLS))
def test_middle_of_the_mask_is_painted_by_all(tool):
    made = TOOLS[tool](SOURCE, PAINTED, MASK)

    slack = {"diffusers `apply_overlay`, blur 33": 90, "Packshot, saved as JPEG 95": 40}.get(tool, 1)
    np.testing.assert_allclose(made[62:68, 62:68].astype(int), PAINTED[62:68, 62:68], atol=slack)
