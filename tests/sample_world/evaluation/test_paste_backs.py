import io

import numpy as np
import pytest
from rich.console import Console

from pipelines.pixels.composite import changed_outside
from sample_world.evaluation.paste_backs import TOOLS, as_table, compare, packshot

SOURCE = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
PAINTED = np.clip(SOURCE.astype(int) + 9, 0, 255).astype(np.uint8)  # a little off everywhere, as an autoencoder is
PAINTED[:] = np.where(PAINTED == SOURCE, 255 - SOURCE, PAINTED)
MASK = np.zeros((128, 128), bool)
MASK[40:90, 40:90] = True


EXACT = {"Packshot", "diffusers `apply_overlay`, binary"}
INEXACT = [name for name in TOOLS if name not in EXACT]


def test_no_pictures_no_figures():
    assert [one.share.n for one in compare([])] == [0] * len(TOOLS)
    assert [one.share.n for one in compare([(SOURCE, PAINTED, np.ones_like(MASK))])] == [0] * len(TOOLS)


def test_packshot_changes_nothing_outside_and_paints_inside():
    made = packshot(SOURCE, PAINTED, MASK)

    assert changed_outside(SOURCE, made, MASK) == 0
    np.testing.assert_array_equal(made[55:75, 55:75], PAINTED[55:75, 55:75])


@pytest.mark.parametrize("tool", INEXACT)
def test_every_other_default_reaches_outside_the_mask(tool):
    assert changed_outside(SOURCE, TOOLS[tool](SOURCE, PAINTED, MASK), MASK) > 0


def test_table_counts_each_tool_on_the_same_pictures():
    measured = {one.tool: one for one in compare([(SOURCE, PAINTED, MASK)] * 3)}

    plain = measured["none (plain pipeline)"]
    assert plain.share.value == 1
    assert plain.share.n == 3
    assert plain.largest == np.abs(PAINTED.astype(int) - SOURCE)[~MASK].max()
    assert plain.reach_px == np.hypot(40, 40)
    assert {
        tool for tool, one in measured.items() if not one.share.value and not one.largest and not one.reach_px
    } == EXACT


def test_wider_blurs_reach_further():
    reach_px = {one.tool: one.reach_px for one in compare([(SOURCE, PAINTED, MASK)])}

    assert 0 < reach_px["A1111, mask blur 4"] <= 10 * np.sqrt(2)
    assert 0 < reach_px["IOPaint, mask blur 11"] <= 11 * np.sqrt(2)
    assert reach_px["diffusers `apply_overlay`, blur 4"] < reach_px["diffusers `apply_overlay`, blur 33"]


def test_all_sizes_stand_beside_each_other():
    some = compare([(SOURCE, PAINTED, MASK)])
    console = Console(record=True, width=240, file=io.StringIO())

    console.print(as_table({"128 x 128": some, "1600 x 2000": some}))

    shown = console.export_text()
    assert "1600 x 2000: changed outside" in shown
    assert "100.00% (100.00% to 100.00%, n = 1)" in shown


@pytest.mark.parametrize("tool", list(TOOLS))
def test_middle_of_the_mask_is_painted_by_all(tool):
    made = TOOLS[tool](SOURCE, PAINTED, MASK)

    slack = {"diffusers `apply_overlay`, blur 33": 90, "Packshot, saved as JPEG 95": 40}.get(tool, 1)
    np.testing.assert_allclose(made[62:68, 62:68].astype(int), PAINTED[62:68, 62:68], atol=slack)
