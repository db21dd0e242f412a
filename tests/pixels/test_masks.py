import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines import rows
from pipelines.pixels import masks
from pipelines.pixels.composite import paste
from pipelines.pixels.images import Picture, decode

EMPTY = np.zeros((6, 9), np.bool_)


def drawn(text):
    return np.array([[sign == "#" for sign in line] for line in text.split()])


def test_empty_mask_stays_empty_everywhere():
    assert not masks.fill_holes(EMPTY, 1).any()
    assert not masks.drop_specks(EMPTY, 0.5).any()
    assert not masks.grow(EMPTY, 5).any()
    assert not masks.shrink(EMPTY, 5).any()
    assert not masks.closed(EMPTY, 5).any()
    assert not masks.largest_parts(EMPTY, 3).any()
    assert not masks.with_shadow_margin(EMPTY, 0.5).any()
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


def test_box_and_diagonal_by_hand():
    mask = EMPTY.copy()
    mask[1:4, 2:6] = True

    assert masks.bounding_box(mask) == (2, 1, 6, 4)
    assert masks.diagonal_px(mask) == 5.0


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


@pytest.mark.parametrize("radius", [1, 2, 5, 40])
def test_shrinkage_undoes_what_growth_of_the_rest_would_take(radius):
    mask = np.random.default_rng(radius).random((31, 43)) > 0.004
    mask[30, 42] = False

    np.testing.assert_array_equal(masks.shrink(mask, radius), ~masks.grow(~mask, radius))


def test_shrinkage_draws_back_from_the_background_and_not_from_the_pictures_border():
    half = np.zeros((8, 12), np.bool_)
    half[:, :6] = True

    shrunk = masks.shrink(half, 2)

    np.testing.assert_array_equal(np.flatnonzero(shrunk.all(axis=0)), [0, 1, 2, 3])
    assert masks.shrink(np.ones_like(half), 3).all()
    assert not masks.shrink(half, 6).any()


def test_crack_is_closed_and_a_wider_gap_is_not():
    cracked = np.ones((20, 40), np.bool_)
    cracked[:, 10:12], cracked[:, 25:32] = False, False

    closed = masks.closed(cracked, 2)

    assert closed[:, 10:12].all()
    np.testing.assert_array_equal(closed[:, 25:32], cracked[:, 25:32])
    np.testing.assert_array_equal(masks.closed(closed, 2), closed)


def test_closing_takes_nothing_away_and_keeps_the_corners_outside():
    box = np.zeros((20, 20), np.bool_)
    box[6:14, 5:15] = True

    np.testing.assert_array_equal(masks.closed(box, 3), box)


def test_closing_keeps_a_bags_handle_open():
    bag = np.zeros((40, 40), np.bool_)
    bag[4:36, 6:34] = True
    bag[8:16, 10:30] = False
    bag[25, 10:30] = False

    closed = masks.closed(bag, 2)

    assert not closed[10:14, 12:28].any()
    assert closed[25, 10:30].all()


@pytest.mark.parametrize("change", [masks.shrink, masks.closed])
def test_negative_radius_is_refused(change):
    with pytest.raises(ValueError, match="-1 pixels; expected 0 or more"):
        change(EMPTY, -1)


def test_largest_parts_are_kept_whole():
    mask = drawn("""
        ###..#...
        ##...##.#
        ....#...#
    """)

    assert masks.largest_parts(mask, 1).sum() == 5
    assert masks.largest_parts(mask, 2).sum() == 9
    np.testing.assert_array_equal(masks.largest_parts(mask, 9), mask)
    with pytest.raises(ValueError, match="the 0 largest parts"):
        masks.largest_parts(mask, 0)


def test_of_equal_parts_the_first_is_kept():
    assert masks.largest_parts(drawn("##.## ....."), 1).tolist() == drawn("##... .....").tolist()


def test_room_for_a_shadow_lies_below_and_beside_the_foot_alone():
    vase = np.zeros((100, 100), np.bool_)
    vase[20:80, 45:55] = True

    roomy = masks.with_shadow_margin(vase, 10 / masks.diagonal_px(vase))

    assert roomy[vase].all()
    assert roomy[80:90, 45:55].all()
    assert roomy[50:80, 35:65].all()
    assert not roomy[:40, :45].any()
    assert not roomy[:20].any()
    assert not roomy[91:].any()


def test_depth_rises_through_the_band_and_the_pictures_border_is_no_edge():
    half = np.zeros((4, 10), np.bool_)
    half[:, 4:] = True

    assert masks.depth(half, 4)[0].tolist() == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert (masks.depth(~np.zeros((4, 4), np.bool_), 4) == 1).all()
    assert (masks.depth(np.zeros((4, 4), np.bool_), 4) == 0).all()


def test_no_margin_is_the_mask_and_a_negative_one_is_refused():
    vase = np.zeros((10, 10), np.bool_)
    vase[2:8, 4:6] = True

    np.testing.assert_array_equal(masks.with_shadow_margin(vase, 0), vase)
    with pytest.raises(ValueError, match=r"a shadow margin of -0\.1"):
        masks.with_shadow_margin(vase, -0.1)


LEFT = np.zeros((8, 12), np.bool_)
LEFT[:, :5] = True


def saved(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def grey(mask):
    return Image.fromarray(mask.astype(np.uint8) * 255)


def with_alpha(mode, colour, opaque):
    image = Image.new(mode[:-1], (12, 8), colour)
    image.putalpha(grey(opaque))
    return image


def palette(mask, **options):
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    return saved(image, **options)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(saved(grey(LEFT)), id="8-bit grey"),
        pytest.param(saved(grey(LEFT).convert("1")), id="1-bit"),
        pytest.param(saved(grey(LEFT).convert("1"), "TIFF", compression="group4"), id="1-bit fax TIFF"),
        pytest.param(saved(Image.fromarray(LEFT.astype(np.uint16) * 65535)), id="16-bit grey"),
        pytest.param(saved(Image.fromarray(LEFT.astype(np.uint16) * 65535), "TIFF"), id="16-bit TIFF"),
        pytest.param(saved(grey(LEFT).convert("RGB")), id="colour"),
        pytest.param(saved(grey(LEFT).convert("RGB"), "BMP"), id="BMP"),
        pytest.param(saved(grey(LEFT), "JPEG", quality=95), id="JPEG"),
        pytest.param(saved(grey(LEFT).convert("CMYK"), "JPEG", quality=95), id="CMYK JPEG"),
        pytest.param(palette(LEFT), id="palette"),
        pytest.param(saved(grey(LEFT).convert("RGBA")), id="opaque alpha"),
        pytest.param(saved(with_alpha("RGBA", "black", ~LEFT)), id="transparent, black"),
        pytest.param(saved(with_alpha("RGBA", "white", ~LEFT)), id="transparent, white"),
        pytest.param(saved(with_alpha("RGBA", "white", ~LEFT), "WEBP", lossless=True), id="transparent WebP"),
        pytest.param(saved(with_alpha("LA", 0, ~LEFT)), id="transparent grey"),
        pytest.param(palette(LEFT, transparency=1), id="transparent palette entry"),
        pytest.param(saved(grey(LEFT), transparency=255), id="transparent grey level"),
    ],
)
def test_mask_file_of_any_kind_repaints_its_white_or_transparent_half_and_nothing_else(file):
    source, painted = np.zeros((8, 12, 3), np.uint8), np.full((8, 12, 3), 200, np.uint8)

    finished = paste(source, painted, masks.mask_from_picture(decode(file)), 0)

    np.testing.assert_array_equal(finished[LEFT], painted[LEFT])
    np.testing.assert_array_equal(finished[~LEFT], source[~LEFT])


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
