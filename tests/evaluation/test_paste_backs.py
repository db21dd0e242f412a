import numpy as np
import pytest

from pipelines.evaluation.paste_backs import TOOLS, packshot
from pipelines.pixels.composite import changed_outside

SOURCE = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
PAINTED = np.clip(SOURCE.astype(int) + 9, 0, 255).astype(np.uint8)  # a little off everywhere, as an autoencoder is
PAINTED[:] = np.where(PAINTED == SOURCE, 255 - SOURCE, PAINTED)
MASK = np.zeros((128, 128), bool)
MASK[40:90, 40:90] = True


def test_packshot_changes_nothing_outside_and_paints_inside():
    made = packshot(SOURCE, PAINTED, MASK)

    assert changed_outside(SOURCE, made, MASK) == 0
    np.testing.assert_array_equal(made[55:75, 55:75], PAINTED[55:75, 55:75])


@pytest.mark.parametrize("tool", [name for name in TOOLS if name != "Packshot"])
def test_every_other_default_reaches_outside_the_mask(tool):
    assert changed_outside(SOURCE, TOOLS[tool](SOURCE, PAINTED, MASK), MASK) > 0


@pytest.mark.parametrize("tool", list(TOOLS))
def test_middle_of_the_mask_is_painted_by_all(tool):
    made = TOOLS[tool](SOURCE, PAINTED, MASK)

    np.testing.assert_allclose(made[62:68, 62:68].astype(int), PAINTED[62:68, 62:68], atol=1)
