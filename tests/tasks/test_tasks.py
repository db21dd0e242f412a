"""Every task, from row to delivered file, on pictures and masks that are not as one would like."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from pipelines import catalogue
from pipelines.errors import ConfigError
from pipelines.executors.inline import run
from pipelines.pixels.images import decode, encode
from pipelines.pixels.masks import bounding_box, from_rle
from pipelines.stages.compositing import base_of
from pipelines.tasks import TASKS
from tests.fakes import FakeDetector, a_graph, a_picture, a_recipe

BADGE = np.pad(np.full((40, 40), 255, np.uint8), 12)


@dataclass(frozen=True)
class HalfDetector:
    """Finds what is not the corner's colour in the left or in the right half."""

    def __call__(self, images, prompts):
        return [self._find(image, prompt) for image, prompt in zip(images, prompts, strict=True)]

    def _find(self, image, prompt):
        half = image.copy()
        middle = image.shape[1] // 2
        half[:, np.s_[middle:] if prompt == "left" else np.s_[:middle]] = image[0, 0]
        return FakeDetector()([half], [prompt])[0]


FINDS_HALVES = {"detect": {"detector": HalfDetector()}}
OF_TASK = {
    "recolour": {"prompts": {"colour": "{colour}"}},
    "studio": {"paint": {"variants": 1}},
    "outpaint": {"mask": {"layout": {"aspect": "2:1"}}},
    "place": {"catalogue": {"scene": "scene"}},
    "insert": {"catalogue": {"references": "reference"}},
}


def made(
    tmp_path,
    task,
    picture=None,
    given_mask=None,
    given_points=None,
    alpha=None,
    reference="reference.png",
    columns=None,
    **sections,
):
    """The finished row of one item."""
    rgb = a_picture(3, (120, 90)) if picture is None else picture
    (tmp_path / "scene.png").write_bytes(encode(a_picture(8, (150, 110)), "png"))
    (tmp_path / "reference.png").write_bytes(encode(a_picture(9, (64, 64)), "png"))
    columns = {
        **(columns or {}),
        "sku": ["a"],
        "category": ["mug"],
        "colour": ["red"],
        "scene": ["scene.png"],
        "reference": [reference],
        "given_image_bytes": pa.array([encode(rgb, "png", alpha=alpha)], pa.large_binary()),
    }
    if given_mask is not None:
        white = np.repeat(given_mask[..., None].astype(np.uint8) * 255, 3, 2)
        columns["given_mask_bytes"] = pa.array([encode(white, "png")], pa.large_binary())
    if given_points is not None:
        columns["given_points"] = [given_points]
    given = {name: dict(section) for name, section in OF_TASK.get(task, {}).items()}
    for name, section in sections.items():
        given[name] = {**given.get(name, {}), **section}
    given["paint"] = {"task": task, "variants": 1, **given.get("paint", {})}
    given["judge"] = {"keep": "all"}
    recipe = a_recipe(tmp_path, **given)
    (row,) = run(a_graph(recipe), catalogue.rows(recipe, pa.table(columns), str(tmp_path)))
    return row


def delivered(row):
    return decode(row["image_files"][0]).rgb


@pytest.mark.parametrize("task", TASKS)
def test_delivered_picture_is_its_base_outside_the_allow_mask(tmp_path, task):
    row = made(tmp_path, task)

    assert (row["status"], row["detail"]) == ("ok", None)
    assert row["changed_outside"] == [0] == row["max_differences"]
    allow, base = from_rle(row["allow_mask_rle"]), base_of(row).rgb
    np.testing.assert_array_equal(delivered(row)[~allow], base[~allow])
    assert (delivered(row)[allow] != base[allow]).any() or not TASKS[task].paints


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.finds_product and name != "place"])
@pytest.mark.parametrize(
    ("drawn", "reason"),
    [("nothing", "empty_mask"), ("everything", "mask_covers_everything"), ("border", None), ("pixel", None)],
)
def test_odd_masks_give_a_picture_or_a_reason(tmp_path, task, drawn, reason):
    mask = np.zeros((90, 120), bool)
    mask[
        {"nothing": np.s_[:0], "everything": np.s_[:], "border": np.s_[:40, :30], "pixel": np.s_[7:8, 9:10]}[drawn]
    ] = 1

    row = made(tmp_path, task, given_mask=~mask if TASKS[task].keeps_product else mask)

    assert row["reason"] == reason, row["detail"]
    assert row["status"] == ("rejected" if reason else "ok")
    if not reason:
        assert row["changed_outside"] == [0]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["small", "grey", "alpha", "wide"])
def test_odd_pictures_give_a_picture_or_a_reason(tmp_path, task, kind):
    size_wh = {"small": (20, 16), "wide": (400, 30)}.get(kind, (120, 90))
    picture, alpha = a_picture(4, size_wh), None
    if kind == "grey":
        picture = np.repeat(picture[..., :1], 3, 2)
    if kind == "alpha":
        alpha = np.tile(np.linspace(0, 255, size_wh[0]).astype(np.uint8), (size_wh[1], 1))

    row = made(tmp_path, task, picture=picture, alpha=alpha)

    assert (row["status"], row["reason"], row["detail"]) == ("ok", None, None)
    assert row["changed_outside"] == [0]


@pytest.mark.parametrize("task", ["replace", "studio"])  # of the others each takes up to a minute
def test_picture_of_48_megapixels_goes_through(tmp_path, task):
    source = a_picture(3, (8000, 6000))

    row = made(tmp_path, task, picture=source)

    assert (row["status"], row["changed_outside"]) == ("ok", [0])
    if task == "replace":
        outside = ~from_rle(row["allow_mask_rle"])
        assert (delivered(row)[outside] == source[outside]).all()


def test_background_and_studio_keep_the_product_bit_for_bit(tmp_path):
    source = a_picture(3, (120, 90))
    product = (source != source[0, 0]).any(2)

    behind, studio = made(tmp_path, "background"), made(tmp_path, "studio")

    kept = ~from_rle(behind["allow_mask_rle"])
    assert kept.sum() > 0.6 * product.sum()
    np.testing.assert_array_equal(delivered(behind)[kept], source[kept])
    kept = ~from_rle(studio["allow_mask_rle"])
    np.testing.assert_array_equal(np.unique(delivered(studio)[kept], axis=0), np.unique(source[product], axis=0))
    assert (delivered(studio)[0, 0] == 255).all()


def test_outpaint_keeps_the_old_picture_where_it_lies_in_the_new_one(tmp_path):
    source = a_picture(3, (120, 90))

    row = made(tmp_path, "outpaint")

    assert row["canvas_size_wh"] == [180, 90]
    np.testing.assert_array_equal(delivered(row)[:, 30:150], source)


def test_place_changes_the_scene_only_where_the_product_its_shadow_and_its_seam_lie(tmp_path):
    row = made(tmp_path, "place")

    scene = a_picture(8, (150, 110))
    allow = from_rle(row["allow_mask_rle"])
    np.testing.assert_array_equal(delivered(row)[~allow], scene[~allow])
    assert 0 < allow.mean() < 0.9


def test_product_placed_outside_its_scene_is_a_failed_row_that_says_so(tmp_path):
    row = made(tmp_path, "place", mask={"layout": {"centre_xy": [3.0, 3.0]}})

    assert (row["status"], row["reason"]) == ("failed", "outside_the_scene")


@pytest.mark.parametrize(
    ("task", "layout"), [("outpaint", {"margins": [4, 4, 4, 4], "aspect": "60:1"}), ("studio", {"aspect": "90000:1"})]
)
def test_canvas_that_no_worker_can_hold_is_a_failed_row(tmp_path, task, layout):
    row = made(tmp_path, task, picture=a_picture(3, (600, 400)), mask={"layout": layout})

    assert (row["status"], row["reason"]) == ("failed", "canvas_too_large")
    assert "100000000 are made" in row["detail"]


def test_canvas_may_be_larger_than_what_is_read(tmp_path):
    row = made(tmp_path, "outpaint", read={"max_pixels": 120 * 90})

    assert row["canvas_size_wh"] == [180, 90]
    assert row["changed_outside"] == [0]


@pytest.mark.parametrize("layout", [{"aspect": "0:1"}, {"margins": [-1, 0, 0, 0]}, {"anchor_xy": [2, 0]}])
def test_growth_that_cannot_be_is_an_error_of_the_recipe(tmp_path, layout):
    with pytest.raises(ConfigError, match=r"mask\.layout"):
        made(tmp_path, "outpaint", mask={"layout": layout})


def test_recolour_without_a_known_colour_says_how_to_write_one(tmp_path):
    row = made(tmp_path, "recolour", prompts={"colour": "rd"})

    assert (row["status"], row["reason"]) == ("failed", "bad_colour")
    assert "red" in row["detail"]


def test_steps_unite_what_they_may_change_and_leave_the_rest(tmp_path):
    source = a_picture(3, (120, 90))
    product = (source != source[0, 0]).any(2)
    steps = [
        {"paint": {"task": "replace"}, "mask": {"grow": 0.0}},
        {"paint": {"task": "background", "variants": 1}, "prompts": {"paint": "a beach"}},
    ]
    recipe = a_recipe(tmp_path, steps=steps, paint={"variants": 1}, judge={"keep": "all"})
    table = pa.table(
        {
            "sku": ["a"],
            "category": ["mug"],
            "colour": ["red"],
            "given_image_bytes": pa.array([encode(source, "png")], pa.large_binary()),
        }
    )

    graph = a_graph(recipe)
    (row,) = run(graph, catalogue.rows(recipe, table, str(tmp_path)))

    assert [node.name for node in graph.nodes][6:8] == ["hand_on", "detect.2"]
    assert (row["status"], row["detail"]) == ("ok", None)
    assert row["find_prompt.2"] == "mug"
    assert row["changed_outside"] == [0]
    first, second = from_rle(row["allow_mask_rle"]), from_rle(row["allow_mask_rle.2"])
    np.testing.assert_array_equal(first, product)
    np.testing.assert_array_equal(from_rle(row["changed_mask_rle.2"]), first | second)
    core = ~second
    np.testing.assert_array_equal(delivered(row)[core], decode(row["finished_bytes"]).rgb[core])


def test_steps_on_products_apart_do_not_touch_each_others_pixels(tmp_path):
    """The fakes find what is not the corner's colour, so the second step looks at a picture with one product less."""
    source = np.full((90, 160, 3), 230, np.uint8)
    source[20:60, 10:50], source[30:70, 100:150] = 90, 40
    table = pa.table(
        {
            "sku": ["a"],
            "category": ["mug"],
            "colour": ["red"],
            "given_image_bytes": pa.array([encode(source, "png")], pa.large_binary()),
        }
    )

    def rendered(*labels):
        steps = [{"prompts": {"find": label}, "mask": {"grow": 0.0}} for label in labels]
        recipe = a_recipe(tmp_path, steps=steps, paint={"variants": 1}, judge={"keep": "all"})
        (row,) = run(a_graph(recipe, fakes=FINDS_HALVES), catalogue.rows(recipe, table, str(tmp_path)))
        assert (row["status"], row["detail"]) == ("ok", None)
        return delivered(row)

    left, right, both = rendered("left"), rendered("right"), rendered("left", "right")

    np.testing.assert_array_equal(both[:, :75], left[:, :75])
    np.testing.assert_array_equal(both[:, 75:], right[:, 75:])


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"paint": {"task": "outpaint"}, "mask": {"layout": {"aspect": "2:1"}}}, {}], "moves the picture"),
        ([{"paint": {"variants": 3}}, {}], "hands on one"),
    ],
)
def test_orders_that_cannot_be_are_refused_with_the_recipe(tmp_path, steps, words):
    with pytest.raises(ConfigError, match=words):
        a_recipe(tmp_path, steps=steps)


def test_canvas_of_the_asked_shape_is_refused_rather_than_repainted(tmp_path):
    row = made(tmp_path, "outpaint", mask={"layout": {"aspect": "4:3"}})

    assert (row["status"], row["reason"]) == ("failed", "nothing_to_grow")


TWO = np.full((90, 160, 3), 230, np.uint8)
TWO[20:60, 10:50], TWO[30:70, 100:150] = (200, 30, 30), (30, 30, 200)


def test_points_say_which_product(tmp_path):
    row = made(tmp_path, "replace", picture=TWO, given_points=[[120.0, 50.0, 1.0]], mask={"grow": 0.0})

    assert (row["status"], row["detail"]) == ("ok", None)
    np.testing.assert_array_equal(from_rle(row["allow_mask_rle"]), TWO[..., 2] == 200)


def test_reference_finds_its_product_without_a_word(tmp_path):
    (tmp_path / "blue.png").write_bytes(encode(np.full((64, 64, 3), (30, 30, 200), np.uint8), "png", alpha=BADGE))

    row = made(
        tmp_path,
        "replace",
        picture=TWO,
        reference="blue.png",
        find={"by": "reference", "min_predicted_iou": 0.5, "min_reference_score": 0.0},
        catalogue={"references": "reference"},
        mask={"grow": 0.0},
    )

    assert (row["status"], row["detail"]) == ("ok", None)
    assert len(row["object_masks_rle"]) == 2
    np.testing.assert_array_equal(from_rle(row["allow_mask_rle"]), TWO[..., 2] == 200)


def test_rival_readings_are_not_repainted_together(tmp_path):
    with pytest.raises(ConfigError, match="rival readings"):
        a_recipe(tmp_path, find={}, mask={"instances": "all"})


def test_step_that_finds_nothing_leaves_the_recipes_finding_out(tmp_path):
    steps = [{}, {"paint": {"task": "restyle"}}]

    recipe = a_recipe(tmp_path, steps=steps, paint={"variants": 1})

    assert [node.name for node in a_graph(recipe).nodes if node.step == 2][:1] == ["mask.2"]
    with pytest.raises(ConfigError, match="looks for no product"):
        a_recipe(tmp_path, steps=[{}, {"paint": {"task": "restyle"}, "detect": {"checkpoint": "embedded:detector"}}])


def test_transparent_studio_delivers_the_cut_out_with_its_own_colours(tmp_path):
    source = a_picture(3, (120, 90))
    product = (source != source[0, 0]).any(2)

    row = made(tmp_path, "studio", mask={"layout": {"show": "cut_out"}})

    cutout = decode(row["image_files"][0])
    assert cutout.alpha is not None
    assert (cutout.alpha[0, 0], cutout.alpha.max()) == (0, 255)
    np.testing.assert_array_equal(
        np.unique(cutout.rgb[cutout.alpha == 255], axis=0), np.unique(source[product], axis=0)
    )


def test_alpha_and_mask_lie_over_the_source(tmp_path):
    source = a_picture(3, (120, 90))
    product = (source != source[0, 0]).any(2)

    alpha, mask = (
        delivered(made(tmp_path, "studio", mask={"layout": {"show": show, "frame": "source"}}))
        for show in ("alpha", "mask")
    )

    assert alpha.shape == source.shape
    assert ((alpha[..., 0] >= 128) == product).mean() > 0.98
    np.testing.assert_array_equal(mask, 255 - alpha)  # black is preserved, white is filled


def test_what_lies_before_the_product_in_the_scene_hides_it(tmp_path):
    front = np.zeros((110, 150, 3), np.uint8)
    front[:, :75] = 255
    (tmp_path / "front.png").write_bytes(encode(front, "png"))
    scene = a_picture(8, (150, 110))

    row = made(tmp_path, "place", catalogue={"scene": "scene", "front": "front"}, columns={"front": ["front.png"]})

    allow = from_rle(row["allow_mask_rle"])
    assert not allow[:, :75].any()
    assert allow[:, 75:].any()
    np.testing.assert_array_equal(delivered(row)[:, :75], scene[:, :75])


@pytest.mark.parametrize(("file", "reason"), [(None, "front_missing"), ((9, 9), "front_size_differs")])
def test_bad_mask_of_what_lies_before_the_product_is_a_failed_row(tmp_path, file, reason):
    if file:
        (tmp_path / "front.png").write_bytes(encode(np.zeros((*file, 3), np.uint8), "png"))

    row = made(tmp_path, "place", catalogue={"scene": "scene", "front": "front"}, columns={"front": ["front.png"]})

    assert (row["status"], row["reason"]) == ("failed", reason)


def test_only_the_largest_parts_stay_where_that_is_asked(tmp_path):
    source = a_picture(3, (120, 90))
    source[70:80, 100:110] = (9, 9, 9)

    both, one = (made(tmp_path, "replace", picture=source, mask=mask) for mask in ({}, {"keep_parts": 1}))

    assert from_rle(both["allow_mask_rle"])[70:80, 100:110].all()
    assert not from_rle(one["allow_mask_rle"])[70:80, 100:110].any()


def test_what_is_removed_leaves_its_outline_and_shadow_to_no_one(tmp_path):
    row = made(tmp_path, "remove")

    allow, repaint = from_rle(row["allow_mask_rle"]), from_rle(row["repaint_mask_rle"])
    left, top, right, bottom = bounding_box(repaint)
    assert repaint[top:bottom, left:right].all()
    assert (allow & repaint).sum() == allow.sum()
    product = (a_picture(3, (120, 90)) != a_picture(3, (120, 90))[0, 0]).any(2)
    around, of_product = bounding_box(allow), bounding_box(product)
    assert around[3] - of_product[3] > of_product[1] - around[1] > 0  # below there is room for a shadow


@pytest.mark.parametrize(("strength", "fill"), [(0.6, "blur"), (1.0, "original")])
def test_what_lies_under_the_mask_is_chosen_where_it_counts(tmp_path, strength, fill):
    assert a_recipe(tmp_path, paint={"strength": strength}).mask.layout.fill == fill


def test_border_pass_repaints_a_band_along_the_first_steps_outline(tmp_path):
    steps = [{"mask": {"grow": 0.0}}, {"mask": {"grow": 0.0, "band_px": 8}, "paint": {"strength": 0.4}}]
    recipe = a_recipe(tmp_path, steps=steps, paint={"variants": 1}, judge={"keep": "all"})
    table = pa.table(
        {"sku": ["a"], "category": ["mug"], "colour": ["red"], "given_image_bytes": pa.array([encode(TWO, "png")])}
    )

    (row,) = run(a_graph(recipe), catalogue.rows(recipe, table, str(tmp_path)))

    assert (row["status"], row["detail"], row["changed_outside"]) == ("ok", None, [0])
    first, band = from_rle(row["allow_mask_rle"]), from_rle(row["allow_mask_rle.2"])
    assert (band & first).any()
    assert (band & ~first).any()
    assert (first & ~band).any()
    np.testing.assert_array_equal(delivered(row)[first & ~band], decode(row["finished_bytes"]).rgb[first & ~band])
