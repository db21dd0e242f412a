import numpy as np
import pytest
from PIL import Image

from pipelines.pixels.composite import inward_alpha, paste, paste_region
from pipelines.pixels.images import decode, encode
from pipelines.pixels.proof import prove


def noise(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def blobs(rng, height, width):
    mask = np.zeros((height, width), np.bool_)
    for _ in range(rng.integers(0, 4)):
        y, x = rng.integers(-10, height), rng.integers(-10, width)
        mask[max(0, y) : y + rng.integers(1, 40), max(0, x) : x + rng.integers(1, 40)] = True
    return mask


def test_empty_mask_gives_a_copy_of_the_source():
    rng = np.random.default_rng(0)
    source, painted, nowhere = noise(rng, 9, 8, 3), noise(rng, 9, 8, 3), np.zeros((9, 8), np.bool_)

    pasted = paste(source, painted, nowhere, 4)

    np.testing.assert_array_equal(pasted, source)
    assert pasted is not source
    assert not inward_alpha(nowhere, 4).any()
    np.testing.assert_array_equal(paste_region(source, painted[:8], (0, 0, 8, 8), nowhere, 4), source)


def test_alpha_rises_inward_by_distance():
    allow = np.zeros((1, 9), np.bool_)
    allow[0, 2:8] = True

    np.testing.assert_allclose(inward_alpha(allow, 4), [[0, 0, 0.25, 0.5, 0.75, 0.75, 0.5, 0.25, 0]])
    assert inward_alpha(allow, 4).dtype == np.float32


def test_border_of_the_picture_is_no_edge():
    allow = np.zeros((5, 9), np.bool_)
    allow[:, :4] = True

    np.testing.assert_allclose(inward_alpha(allow, 2), [[1, 1, 1, 0.5, 0, 0, 0, 0, 0]] * 5)
    assert (inward_alpha(np.ones((5, 9), np.bool_), 50) == 1).all()


@pytest.mark.parametrize("feather", [0, 0.5, 1])
def test_narrow_feather_is_a_hard_edge(feather):
    allow = np.eye(6, dtype=np.bool_)

    np.testing.assert_array_equal(inward_alpha(allow, feather), allow)


def test_negative_feather_is_refused():
    with pytest.raises(ValueError, match=r"a feather of -1 pixels"):
        inward_alpha(np.ones((2, 2), np.bool_), -1)


def test_blend_rounds_to_the_nearest_level():
    source, painted = np.zeros((1, 5, 3), np.uint8), np.full((1, 5, 3), 11, np.uint8)
    allow = np.array([[False, True, True, True, True]])

    assert paste(source, painted, allow, 4)[0, :, 0].tolist() == [0, 3, 6, 8, 11]


@pytest.mark.parametrize("seed", range(12))
def test_outside_is_the_source_bit_for_bit_also_in_the_file(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(20, 90, 2))
    source, painted, allow = noise(rng, height, width, 3), noise(rng, height, width, 3), blobs(rng, height, width)

    pasted = paste(source, painted, allow, float(rng.uniform(0, 12)))

    np.testing.assert_array_equal(pasted[~allow], source[~allow])
    for format in ("png", "webp"):
        delivered = decode(encode(pasted, format)).rgb
        np.testing.assert_array_equal(delivered, pasted)
        assert prove(source, delivered, allow).changed_outside == 0


@pytest.mark.parametrize("seed", range(4))
def test_painted_source_is_the_source_everywhere(seed):
    rng = np.random.default_rng(seed)
    source, allow = noise(rng, 60, 70, 3), blobs(rng, 60, 70)

    np.testing.assert_array_equal(paste(source, source, allow, 7.3), source)


@pytest.mark.parametrize("seed", range(16))
def test_region_is_pasted_as_the_whole_picture_would_be(seed):
    rng = np.random.default_rng(seed)
    height, width, side = (int(length) for length in rng.integers(20, 80, 3))
    left, top = int(rng.integers(-side, width + 5)), int(rng.integers(-side, height + 5))
    source, crop, allow = noise(rng, height, width, 3), noise(rng, 32, 32, 3), blobs(rng, height, width)
    feather = float(rng.uniform(0, 12))
    enlarged = np.zeros((height + 2 * 90, width + 2 * 90, 3), np.uint8)
    resampling = Image.Resampling.BICUBIC if side > 32 else Image.Resampling.LANCZOS
    resized = np.asarray(Image.fromarray(crop).resize((side, side), resampling))
    enlarged[top + 90 : top + 90 + side, left + 90 : left + 90 + side] = resized
    in_region = np.zeros((height + 180, width + 180), np.bool_)
    in_region[top + 90 : top + 90 + side, left + 90 : left + 90 + side] = True
    both = allow & in_region[90:-90, 90:-90]

    pasted = paste_region(source, crop, (left, top, left + side, top + side), allow, feather)

    np.testing.assert_array_equal(pasted, paste(source, enlarged[90:-90, 90:-90], both, feather))
    np.testing.assert_array_equal(pasted[~both], source[~both])


def test_mask_at_the_border_shows_the_painted_crop_up_to_the_last_pixel():
    source, crop = np.zeros((20, 30, 3), np.uint8), np.full((16, 16, 3), 200, np.uint8)
    allow = np.zeros((20, 30), np.bool_)
    allow[4:, 20:] = True

    pasted = paste_region(source, crop, (18, 8, 34, 24), allow, 3)

    assert (pasted[12:, 24:] == 200).all()
    assert not pasted[:8].any()
    assert pasted[8, 28, 0] == 67  # the region cuts the mask here: one third of 200


def test_inputs_stay_as_they_were():
    rng = np.random.default_rng(1)
    source, crop, allow = noise(rng, 20, 20, 3), noise(rng, 20, 20, 3), np.ones((20, 20), np.bool_)
    for array in (source, crop, allow):
        array.flags.writeable = False

    pasted = paste_region(source, crop, (0, 0, 20, 20), allow, 5)

    np.testing.assert_array_equal(pasted, crop)
    pasted[:] = 0
    assert crop.any()


def test_changes_outside_are_counted_in_pixels():
    source = np.zeros((4, 4, 3), np.uint8)
    delivered = source.copy()
    delivered[0, 0] = 1
    delivered[1, 1, 2] = 255
    delivered[3, 3] = 9
    allow = np.zeros((4, 4), np.bool_)
    allow[3, 3] = True

    assert prove(source, delivered, allow).changed_outside == 2
    assert prove(source, source, allow).changed_outside == 0


def test_sizes_that_differ_are_refused():
    source, allow = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.bool_)

    with pytest.raises(ValueError, match=r"allow mask of shape \(4, 5\); expected \(H, W, 3\) and \(H, W\)"):
        prove(source, source, allow)
    with pytest.raises(ValueError, match="a region of 0 x 3 pixels is empty"):
        paste_region(source, source, (1, 1, 1, 4), allow[:, :4], 2)
