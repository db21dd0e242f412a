import numpy as np
import pytest

from pipelines.pixels.layouts import outpainted


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_nothing_to_grow_lets_nothing_change():
    layout = outpainted(noise(20, 30), aspect=1.5)

    np.testing.assert_array_equal(layout.canvas, noise(20, 30))
    assert not layout.allow.any()
    assert not layout.inpaint_mask.any()


def test_margins_are_shares_of_the_source_and_its_pixels_stay():
    source = noise(60, 90)

    layout = outpainted(source, margins=(0.5, 0.1, 0.25, 0.2))

    assert layout.canvas.shape == (30 + 60 + 15, 18 + 90 + 9, 3)
    assert layout.at_xy == (18, 30)
    np.testing.assert_array_equal(layout.base[30:90, 18:108], source)
    np.testing.assert_array_equal(layout.canvas[~layout.allow], layout.base[~layout.allow])
    assert (~layout.allow).sum() == 60 * 90
    assert not layout.allow[30:90, 18:108].any()
    assert (~layout.inpaint_mask).sum() == (60 - 2 * 16) * (90 - 2 * 16)
    np.testing.assert_array_equal((layout.allow & layout.inpaint_mask), layout.allow)


@pytest.mark.parametrize(
    ("aspect", "anchor_xy", "size_wh", "corner_xy"),
    [
        (2.0, (0.5, 0.5), (80, 40), (25, 0)),
        (2.0, (0.0, 0.5), (80, 40), (0, 0)),
        (2.0, (1.0, 0.5), (80, 40), (50, 0)),
        (0.5, (0.5, 1.0), (30, 60), (0, 20)),
        (0.75, (0.5, 0.5), (30, 40), (0, 0)),
    ],
)
def test_aspect_grows_the_short_direction_only(aspect, anchor_xy, size_wh, corner_xy):
    source = noise(40, 30)

    layout = outpainted(source, aspect=aspect, anchor_xy=anchor_xy)

    assert layout.canvas.shape[1::-1] == size_wh
    x, y = corner_xy
    np.testing.assert_array_equal(layout.canvas[y : y + 40, x : x + 30], source)


def test_overlap_reaches_in_from_grown_sides_only():
    layout = outpainted(noise(40, 30), margins=(0, 1, 0, 0))

    assert layout.inpaint_mask[:, 14:].all()
    assert not layout.inpaint_mask[:, :14].any()


def test_overlap_deeper_than_the_picture_denoises_all_of_it():
    layout = outpainted(noise(6, 6), margins=(1, 1, 1, 1))

    assert layout.inpaint_mask.all()
    assert (~layout.allow).sum() == 36


def test_start_goes_on_from_the_edge_and_keeps_bands():
    source = np.full((60, 40, 3), 40, np.uint8)
    source[30:] = 200

    layout = outpainted(source, margins=(0.5, 0.5, 0.5, 0.5))

    np.testing.assert_array_equal(layout.canvas[:30], 40)
    np.testing.assert_array_equal(layout.canvas[90:], 200)
    assert (layout.canvas[40:52, :20] < 60).all()
    assert (layout.canvas[68:80, 60:] > 180).all()


def test_noise_at_the_edge_becomes_no_streaks():
    layout = outpainted(noise(64, 64), margins=(0, 1, 0, 0))

    assert layout.canvas[:, 80:].std(axis=0).mean() < noise(64, 64).std() / 3


def test_picture_of_one_pixel_grows():
    layout = outpainted(np.full((1, 1, 3), 7, np.uint8), margins=(2, 2, 2, 2))

    np.testing.assert_array_equal(layout.canvas, np.full((5, 5, 3), 7))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"margins": (-0.1, 0, 0, 0)}, r"`margins` are \(-0\.1, 0, 0, 0\); expected four shares"),
        ({"aspect": 0}, r"`aspect` is 0; expected a width over a height"),
        ({"anchor_xy": (0.5, 2)}, r"`anchor_xy` is \(0\.5, 2\); expected two shares"),
    ],
)
def test_numbers_outside_their_range_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        outpainted(noise(4, 4), **wrong)


def test_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match="no edge to go on from"):
        outpainted(np.zeros((0, 4, 3), np.uint8), aspect=1)
