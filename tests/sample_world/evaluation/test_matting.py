import numpy as np
import pytest

from pipelines.pixels.cutouts import Cutout, hard_cutout, on_colour
from sample_world.evaluation.cases import held_out_scenes
from sample_world.evaluation.matting import BARS, errors, exact_cutouts, measure_matting


@pytest.fixture(scope="module")
def scenes():
    return held_out_scenes(2)


def test_no_scenes_give_figures_of_no_case():
    figures = measure_matting(hard_cutout, [])

    assert set(figures) >= {name for name in BARS if "true mask" in name}
    assert all(figure.n == 0 for figure in figures.values())


def test_the_exact_cutout_has_no_error(scenes):
    for one in exact_cutouts(scenes):
        assert errors(one, one.cutout) == (0, 0)


def test_exact_cutouts_are_what_the_scene_shows(scenes):
    for one in exact_cutouts(scenes):
        opaque = one.cutout.alpha == 255
        grain = np.abs(one.held.scene.rgb[opaque].astype(int) - one.cutout.rgb[opaque])

        assert grain.max() <= 8
        assert ((one.cutout.alpha >= 128) != one.thing.mask).mean() < 1e-3


def test_an_edge_that_is_off_by_some_pixels_is_worse_than_the_mask_s_own(scenes):
    for one in exact_cutouts(scenes):
        rgb, mask = one.held.scene.rgb, one.thing.mask

        alpha_error, halo = errors(one, hard_cutout(rgb, mask))
        alpha_error_off, halo_off = errors(one, hard_cutout(rgb, np.roll(mask, 2, axis=1)))

        assert 0 < alpha_error < alpha_error_off
        assert 0 < halo < halo_off


def test_an_old_background_that_is_left_in_counts_as_halo_alone(scenes):
    one = exact_cutouts(scenes)[0]
    glowing = Cutout(np.where((one.cutout.alpha < 255)[..., None], np.uint8(0), one.cutout.rgb), one.cutout.alpha)

    alpha_error, halo = errors(one, glowing)

    assert alpha_error == 0
    assert halo > 0.5
    assert (on_colour(glowing, (255, 255, 255)) != on_colour(one.cutout, (255, 255, 255))).any()


def test_a_hard_edge_is_measured_beside_the_matting(scenes):
    figures = measure_matting(hard_cutout, scenes)

    assert figures["cut-out from the true mask: alpha error in the band"].n == len(exact_cutouts(scenes))
    for name in ("alpha error in the band", "halo on white, Delta E 2000"):
        assert figures[f"cut-out from the true mask: {name}"] == figures[f"hard edge of the true mask: {name}"]
