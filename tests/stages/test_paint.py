import numpy as np

from pipelines.pixels.crops import from_raw
from pipelines.pixels.masks import to_rle
from pipelines.recipe.settings import PaintSettings
from pipelines.rows import ItemError
from pipelines.stages.paint import Paint
from pipelines.stages.seeds import seeds_for
from tests.fakes import FakePainter

SETTINGS = PaintSettings(checkpoint="embedded:painter", variants=2)


def a_row(basis=None, given=None, regions=1, sha="abc"):
    mask = np.zeros((64, 64), bool)
    mask[10:30, 10:30] = True
    return {
        "paint_prompts": ["a red mug", "a blue mug"],
        "negative_prompt": "blurry",
        "seed_basis": basis,
        "given_seeds": given,
        "source_sha256": sha,
        "repaint_mask_rle": to_rle(mask),
        "regions_xyxy": [[0, 0, 64, 64]] * regions,
        "region_rgb": [np.full((64, 64, 3), 100 + region, np.uint8).tobytes() for region in range(regions)],
        "region_start": None,
    }


def test_no_rows_paint_nothing():
    assert Paint(SETTINGS, FakePainter())([]) == []


def test_seeds_follow_from_the_pictures_hash_or_the_named_basis():
    paint = Paint(SETTINGS, FakePainter())

    by_hash, by_sku, given = paint([a_row(), a_row(basis="SKU-1"), a_row(given=[7, 8])])

    assert by_hash["variant_seeds"] == seeds_for("abc", 0, 2)
    assert by_sku["variant_seeds"] == seeds_for("SKU-1", 0, 2)
    assert given["variant_seeds"] == [7, 8]


def test_crops_are_variant_major_and_each_from_its_own_region():
    (update,) = Paint(SETTINGS, FakePainter())([a_row(regions=2)])

    around = [int(from_raw(crop)[0, 0, 0]) for crop in update["variant_crops"]]
    inside = [tuple(from_raw(crop)[20, 20]) for crop in update["variant_crops"]]
    assert around == [102, 103, 102, 103]
    assert len(set(inside)) == 4  # two variants of two regions: four draws of noise


def test_neighbours_change_no_pixel():
    paint = Paint(SETTINGS, FakePainter())

    alone = paint([a_row(sha="x")])[0]
    together = paint([a_row(sha="y", regions=2), a_row(sha="x"), a_row(sha="z")])[1]

    assert alone == together


def test_soft_denoise_repaints_less_and_less_towards_the_edge():
    seen = []
    settings = PaintSettings(checkpoint="embedded:painter", variants=2, soft_denoise_px=4)

    Paint(settings, lambda paintings: seen.extend(paintings) or FakePainter()(paintings))([a_row()])

    softness = seen[0].softness
    assert softness[20, 8:16].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert (softness[~seen[0].inpaint_mask] == 0).all()


class HalfBlind:
    """Gives no numbers for every painting of one prompt."""

    def __call__(self, paintings):
        return [None if one.prompt == "a blue mug" else one.rgb for one in paintings]


def test_row_without_numbers_fails_by_name_and_its_neighbours_do_not():
    whole = {**a_row(), "paint_prompts": ["a red mug"] * 2}

    failed, painted = Paint(SETTINGS, HalfBlind())([a_row(), whole])

    assert failed == ItemError("no_numbers", "the painter gave NaN in 1 of 2 crops")
    assert len(painted["variant_crops"]) == 2
