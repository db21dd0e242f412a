import numpy as np
import pyarrow as pa
import pytest

from pipelines import rows
from pipelines.pixels import masks
from pipelines.pixels.images import Picture

EMPTY = np.zeros((6, 9), np.bool_)


def drawn(text):
    return np.array([[sign == "#" for sign in line] for line in text.split()])


def test_empty_mask_stays_empty_everywhere():
    assert not masks.fill_holes(EMPTY, 1).any()
    assert not masks.drop_specks(EMPTY, 0.5).any()
    assert not masks.grow(EMPTY, 5).any()
    assert masks.area_fraction(EMPTY) == 0
    assert masks.diagonal_px(EMPTY) == 0
    assert masks.rle_area(masks.to_rle(EMPTY)) == 0
    with pytest.raises(ValueError, match="empty, so it has no bounding box"):
        masks.bounding_box(EMPTY)


def test_run_lengths_give_the_mask_back_after_arrow():
    mask = np.random.default_rng(0).random((37, 23)) < 0.3

    rle = masks.to_rle(mask)
    travelled = pa.array([rle], rows.RLE).to_pylist()[0]

    assert rle["size"] == [37, 23]
    assert isinstance(rle["counts"], str)
    assert [type(side) for side in rle["size"]] == [int, int]
    np.testing.assert_array_equal(masks.from_rle(travelled), mask)
    assert masks.from_rle(travelled).dtype == np.bool_
    assert masks.rle_area(travelled) == mask.sum()


def test_run_lengths_of_a_picture_are_refused():
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        masks.to_rle(np.zeros((4, 4, 3), np.bool_))


def test_box_diagonal_and_area_by_hand():
    mask = EMPTY.copy()
    mask[1:4, 2:6] = True

    assert masks.bounding_box(mask) == (2, 1, 6, 4)
    assert masks.diagonal_px(mask) == 5.0
    assert masks.area_fraction(mask) == 12 / 54


def test_small_hole_is_filled_and_the_handle_stays_open():
    bag = drawn("""
        ..######..
        ..#....#..
        ..#....#..
        ##########
        ####.#####
        ##########
    """)

    filled = masks.fill_holes(bag, 0.05)

    assert filled[4, 4]
    assert not filled[1:3, 3:7].any()
    assert filled.sum() == bag.sum() + 1
    assert masks.fill_holes(bag, 1)[1:3, 3:7].all()


def test_what_touches_the_border_is_no_hole():
    bay = drawn("""
        #.###
        #.###
        #####
        ####.
    """)

    np.testing.assert_array_equal(masks.fill_holes(bay, 1), bay)


def test_no_hole_is_filled_at_zero():
    ring = drawn("### #.# ###")

    np.testing.assert_array_equal(masks.fill_holes(ring, 0), ring)
    assert masks.fill_holes(ring, 1 / 8).all()


def test_small_loose_parts_go_and_the_largest_stays():
    mask = drawn("""
        ####.....
        ####..##.
        ####.....
        .......#.
    """)

    assert masks.drop_specks(mask, 0).sum() == 15
    assert masks.drop_specks(mask, 2 / 12).sum() == 14
    assert masks.drop_specks(mask, 0.2).sum() == 12
    assert masks.drop_specks(mask, 1).sum() == 12


def test_parts_that_meet_at_a_corner_are_one():
    mask = drawn("##. ##. ..#")

    np.testing.assert_array_equal(masks.drop_specks(mask, 1), mask)


@pytest.mark.parametrize("radius", [1, 2, 5, 40])
def test_growth_is_the_euclidean_disc_everywhere(radius):
    mask = np.random.default_rng(radius).random((31, 43)) < 0.004
    mask[0, 0] = True
    y, x = np.mgrid[:31, :43]
    expected = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        expected |= (y - row) ** 2 + (x - column) ** 2 <= radius**2

    np.testing.assert_array_equal(masks.grow(mask, radius), expected)


def test_growth_by_nothing_is_a_copy():
    mask = EMPTY.copy()
    mask[2, 2] = True

    grown = masks.grow(mask, 0)
    grown[0, 0] = True

    assert mask.sum() == 1


def test_negative_growth_is_refused():
    with pytest.raises(ValueError, match="cannot grow by -1 pixels"):
        masks.grow(EMPTY, -1)


def picture(rgb, alpha=None):
    rgb = np.array([[value if isinstance(value, list) else [value] * 3 for value in rgb]], np.uint8)
    return Picture(rgb, None if alpha is None else np.array([alpha], np.uint8), None, "PNG")


def test_white_is_repainted():
    assert masks.mask_from_picture(picture([0, 127, 128, 255])).tolist() == [[False, False, True, True]]


def test_colours_count_by_luminance():
    green, blue = [0, 255, 0], [0, 0, 255]

    assert masks.mask_from_picture(picture([green, blue])).tolist() == [[True, False]]


def test_transparent_is_repainted_whatever_its_colour():
    given = picture([255, 0, 255, 0], alpha=[0, 127, 128, 255])

    assert masks.mask_from_picture(given).tolist() == [[True, True, False, False]]


def test_opaque_alpha_of_a_black_and_white_mask_says_nothing():
    assert masks.mask_from_picture(picture([0, 255], alpha=[255, 255])).tolist() == [[False, True]]


def test_opaque_alpha_of_a_coloured_photo_repaints_nothing():
    assert not masks.mask_from_picture(picture([255, [250, 240, 10]], alpha=[255, 255])).any()
