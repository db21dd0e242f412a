from typing import get_args

import numpy as np
import pytest

from pipelines.pixels.fills import Content, filled

CONTENTS = get_args(Content)
CONTINUED = ("edge", "telea", "navier_stokes", "border")
SKY, PRODUCT = (120, 180, 230), (200, 30, 30)
MASK = np.zeros((96, 120), np.bool_)
MASK[30:70, 40:90] = True
PICTURE = np.where(MASK[..., None], np.uint8(PRODUCT), np.uint8(SKY))


@pytest.mark.parametrize("content", CONTENTS)
def test_empty_mask_gives_a_copy(content):
    covered = filled(PICTURE, np.zeros_like(MASK), content)

    np.testing.assert_array_equal(covered, PICTURE)
    assert not np.shares_memory(covered, PICTURE)


@pytest.mark.parametrize("content", CONTENTS)
def test_outside_the_mask_stays_bit_for_bit(content):
    grain = np.random.default_rng(0).integers(0, 256, PICTURE.shape).astype(np.uint8)

    covered = filled(grain, MASK, content)

    np.testing.assert_array_equal(covered[~MASK], grain[~MASK])
    assert (covered[MASK] != grain[MASK]).any() == (content != "original")


@pytest.mark.parametrize("content", CONTINUED)
def test_surroundings_are_carried_on_without_the_product(content):
    covered = filled(PICTURE, MASK, content)

    np.testing.assert_allclose(covered[MASK].astype(int), np.broadcast_to(SKY, (MASK.sum(), 3)), atol=2)


@pytest.mark.parametrize("content", CONTINUED)
def test_large_mask_is_worked_on_small_and_still_carries_the_surroundings_on(content):
    mask = np.zeros((620, 300), np.bool_)
    mask[20:600, 20:280] = True
    picture = np.where(mask[..., None], np.uint8(PRODUCT), np.uint8(SKY))

    covered = filled(picture, mask, content)

    np.testing.assert_array_equal(covered[~mask], picture[~mask])
    np.testing.assert_allclose(covered[mask].astype(int), np.broadcast_to(SKY, (mask.sum(), 3)), atol=3)


@pytest.mark.parametrize("content", ["edge", "telea", "navier_stokes"])
def test_sliver_that_is_known_is_enough(content):
    mask = np.ones((1300, 90), np.bool_)
    mask[:, 0] = False
    picture = np.where(mask[..., None], np.uint8(PRODUCT), np.uint8(SKY))

    covered = filled(picture, mask, content)

    np.testing.assert_allclose(covered[700, 45].astype(int), SKY, atol=3)


def test_edge_is_the_nearest_known_pixel():
    ramp = np.repeat(np.arange(120, dtype=np.uint8)[None, :, None], 96, axis=0).repeat(3, axis=2)
    columns = np.zeros_like(MASK)
    columns[:, 50:60] = True

    covered = filled(ramp, columns, "edge")

    np.testing.assert_array_equal(covered[40, 50:60, 0], [49] * 5 + [60] * 5)


def test_neutral_is_mid_grey():
    assert (filled(PICTURE, MASK, "neutral")[MASK] == 128).all()


def test_blur_keeps_the_products_colour_and_loses_its_stripes():
    striped = PICTURE.copy()
    striped[MASK] = np.where((np.indices(MASK.shape)[1] // 3 % 2)[MASK][:, None], np.uint8((255, 255, 255)), PRODUCT)

    middle = filled(striped, MASK, "blur")[40:60, 50:80].astype(int)

    assert np.ptp(middle[10, :, 1]) < 40 < np.ptp(striped[50, 50:80, 1])
    assert middle[..., 0].mean() > middle[..., 1].mean() + 30


def test_blur_fades_in_from_the_edge():
    covered = filled(PICTURE, MASK, "blur").astype(int)

    assert np.abs(covered[50, 40] - PRODUCT).max() < 20 < np.abs(covered[50, 49] - PRODUCT).max()


@pytest.mark.parametrize("content", CONTINUED)
def test_nothing_known_is_mid_grey(content):
    assert (np.abs(filled(PICTURE, np.ones_like(MASK), content).astype(int) - 128) <= 1).all()


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (70, 2)])
def test_smallest_pictures_are_filled(content, shape):
    picture, mask = np.full((*shape, 3), 90, np.uint8), np.ones(shape, np.bool_)
    mask.flat[-1] = shape == (1, 1)

    assert filled(picture, mask, content).shape == picture.shape


def test_single_pixel_is_filled_from_its_neighbours():
    dot = np.zeros_like(MASK)
    dot[0, 0] = True
    picture = np.full((96, 120, 3), 70, np.uint8)
    picture[0, 0] = 255

    made = [int(filled(picture, dot, content)[0, 0, 0]) for content in ("edge", "telea", "navier_stokes")]

    np.testing.assert_allclose(made, 70, atol=1)


def test_unknown_content_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="the content is 'lama'; expected one of original, blur"):
        filled(PICTURE, MASK, "lama")
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\), \(H, W\)"):
        filled(PICTURE, MASK[1:], "blur")
