import numpy as np
import pytest

from pipelines.pixels.colour import apply_fit, fit, ring, ring_error

RNG = np.random.default_rng(3)
SOURCE = RNG.integers(60, 180, (24, 24, 3)).astype(np.uint8)
EVERYWHERE = np.ones((24, 24), np.bool_)
NOWHERE = ~EVERYWHERE


def test_empty_ring_fits_nothing_and_has_no_error():
    gain, offset = fit(SOURCE, SOURCE, NOWHERE)

    assert gain.tolist() == [1, 1, 1]
    assert offset.tolist() == [0, 0, 0]
    assert ring_error(SOURCE, SOURCE, NOWHERE) is None


def test_ring_lies_outside_within_its_width():
    mask = np.zeros((7, 7), np.bool_)
    mask[3, 3] = True

    assert ring(mask, 1).sum() == 4
    assert not ring(mask, 2)[3, 3]
    assert not ring(~np.zeros((4, 4), np.bool_), 3).any()
    assert not ring(np.zeros((4, 4), np.bool_), 3).any()


def test_gain_and_offset_of_each_channel_are_found():
    made = np.clip(np.rint((SOURCE - [10.0, 0.0, -12.0]) / [1.2, 1.0, 0.8]), 0, 255).astype(np.uint8)

    gain, offset = fit(made, SOURCE, EVERYWHERE)

    np.testing.assert_allclose(gain, [1.2, 1.0, 0.8], atol=0.02)
    np.testing.assert_allclose(offset, [10, 0, -12], atol=1.5)
    assert gain.dtype == offset.dtype == np.float32
    assert ring_error(apply_fit(made, gain, offset), SOURCE, EVERYWHERE) < 1


def test_only_the_ring_counts():
    made = SOURCE.copy()
    made[:12] = 255
    below = EVERYWHERE.copy()
    below[:12] = False

    gain, offset = fit(made, SOURCE, below)

    np.testing.assert_allclose(gain, 1, atol=1e-5)
    np.testing.assert_allclose(offset, 0, atol=1e-3)


def test_flat_ring_gets_the_mean_difference_alone():
    gain, offset = fit(np.full_like(SOURCE, 100), np.full_like(SOURCE, 110), EVERYWHERE)

    assert gain.tolist() == [1, 1, 1]
    assert offset.tolist() == [10, 10, 10]


def test_few_pixels_get_the_mean_difference_alone():
    few = NOWHERE.copy()
    few[0, :15] = True
    made = (SOURCE // 2).astype(np.uint8)

    gain, _ = fit(made, SOURCE, few)

    assert gain.tolist() == [1, 1, 1]


def test_rings_that_do_not_vary_together_do_not_wash_the_product_out():
    unlike = RNG.integers(60, 180, SOURCE.shape).astype(np.uint8)

    gain, _ = fit(unlike, SOURCE, EVERYWHERE)

    assert gain.tolist() == [1, 1, 1]


def test_gain_and_offset_keep_their_limits():
    dark = (SOURCE // 4).astype(np.uint8)

    gain, offset = fit(dark, SOURCE, EVERYWHERE, max_gain=1.5)

    assert gain.tolist() == [1.5, 1.5, 1.5]
    assert offset.tolist() == [40, 40, 40]
    with pytest.raises(ValueError, match=r"`max_gain` is 0\.5"):
        fit(dark, SOURCE, EVERYWHERE, max_gain=0.5)


def test_fit_is_applied_rounded_and_cut():
    rgb = np.array([[[0, 100, 250]]], np.uint8)

    fitted = apply_fit(rgb, np.float32([1, 1.006, 1.4]), np.float32([-5, 0, 0]))

    assert fitted.tolist() == [[[0, 101, 255]]]
    assert fitted.dtype == np.uint8


def test_error_is_the_mean_difference_either_way():
    a, b = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 250, np.uint8)

    assert ring_error(a, b, np.ones((2, 2), np.bool_)) == ring_error(b, a, np.ones((2, 2), np.bool_)) == 240


def test_ring_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"a ring of shape \(2, 2\); expected \(H, W, 3\)"):
        ring_error(SOURCE, SOURCE, np.ones((2, 2), np.bool_))
