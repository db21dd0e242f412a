"""Does every task do what it says, and nothing else? `packshot evaluate tasks`, by the ready recipes as they ship."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from skimage.color import deltaE_ciede2000, rgb2lab

from pipelines import catalogue
from pipelines import recipe as recipes
from pipelines.executors import inline
from pipelines.graph import build
from pipelines.models.loading import load_matting
from pipelines.pixels.cutouts import Matting
from pipelines.pixels.fills import filled
from pipelines.pixels.images import Rgb, decode, encode
from pipelines.pixels.masks import from_rle, padded_window
from pipelines.pixels.overlap import boundary_iou
from pipelines.pixels.paste_backs import OutsideChange, compare
from pipelines.pixels.proof import prove
from pipelines.pixels.seams import seam_gradient
from pipelines.recipe import Recipe
from pipelines.rows import OK, Row, as_seen_by
from pipelines.stages.compositing import base_of, changeable
from pipelines.tasks import TASKS
from sample_world.drawing.scenes import HELD_OUT_SEED, bodies, plate, product_picture, scene
from sample_world.drawing.textures import COLOURS
from sample_world.evaluation.bars import Bar
from sample_world.evaluation.cases import Case, another, held_out_scenes, products
from sample_world.evaluation.figures import Figure, average, share
from sample_world.evaluation.judge import nearest_colour
from sample_world.evaluation.paste_backs import whole_as_painted
from sample_world.evaluation.sheet import Pair, write_pairs

SCENES: Final = 200
PROCESSES: Final = 2
CHUNK: Final = 5
SHEET_COLUMNS: Final = 4
HALF: Final = 128  # of opacity
INSIDE_PX: Final = 2  # how far inside its outline a product's pixels are its own, unmixed with what is behind it
OTHER_SCENES: Final = HELD_OUT_SEED + 500_000
SCENE_WH: Final = (400, 400)
GARMENTS: Final = ("dress", "jacket", "shirt", "skirt", "trousers")
SEAMLESS: Final = ("studio",)  # a cut-out on one colour: its outline is meant to show
UNTOUCHED: Final = "{}: pictures with no pixel changed outside"
BARS: Final = {
    **{UNTOUCHED.format(path.stem): Bar(1, 1) for path in sorted(recipes.READY.glob("*.yaml"))},
    "dress-on-model: mannequin pixels left, by product": Bar(0.01, 0.005, at_most=True),
}
_delta_e: Callable[..., NDArray[np.float64]] = deltaE_ciede2000  # not annotated
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Edited:
    """One item that a recipe was asked to do: its case, and what the figures are made of.

    Null where nothing was delivered; `picture` and `base` (H, W, 3) and `allow` (H, W) are the finished picture's.
    """

    case: Case
    asked_colour: str
    row: Row
    picture: Rgb | None
    base: Rgb
    allow: NDArray[np.bool_]


@dataclass(frozen=True)
class TasksEvaluation:
    """Figures by name, what other tools' paste-backs would have changed on the pictures of `replace`, and notes."""

    figures: dict[str, Figure]
    paste_backs: list[OutsideChange]
    notes: tuple[str, ...]


def evaluate(scenes: int = SCENES, names: Sequence[str] = (), sheets: Path | None = None) -> TasksEvaluation:
    """Share held-out scenes out over the ready recipes, and measure what each did with its own.

    Args:
        scenes: in all; each recipe gets as many of them as the others.
        names: ready recipes; none are all.
        sheets: a folder for a contact sheet a recipe, source and result side by side, and the first few of all.
    """
    asked = list(names) or sorted(path.stem for path in recipes.READY.glob("*.yaml"))
    count = max(1, scenes // len(asked))
    alone = products(held_out_scenes(scenes), of_their_kind_alone=True)
    first = {case.held: case for case in reversed(alone)}
    cases = [case for case in alone if first[case.held] is case]
    figures: dict[str, Figure] = {}
    notes: list[str] = []
    paste_backs: list[OutsideChange] = []
    pairs: dict[str, list[Pair]] = {}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:  # not forked: torch's threads do not survive it
        for number, name in enumerate(asked):
            own = [case for case in cases[number :: len(asked)] if _suits(name, case)][:count]
            chunks = [own[start : start + CHUNK] for start in range(0, len(own), CHUNK)]
            edited = list(chain.from_iterable(pool.map(partial(render, name), chunks)))
            figures |= measure(name, edited)
            notes += refusals(name, edited)
            pairs[name] = as_pairs(name, edited)
            if name == "replace":
                painted = (one for one in edited if one.row.get("variant_crops"))
                paste_backs = compare((one.base, whole_as_painted(one.base, one.row), one.allow) for one in painted)
            _log.info("%s is measured", name)
    if sheets is not None:
        for name, shown in pairs.items():
            write_pairs(shown, sheets / f"{name}.png", SHEET_COLUMNS)
        write_pairs(
            [pair for shown in pairs.values() for pair in shown[:SHEET_COLUMNS]], sheets / "all.png", SHEET_COLUMNS
        )
    return TasksEvaluation(figures, paste_backs, tuple(notes))


def render(name: str, cases: Sequence[Case]) -> list[Edited]:
    """Render cases by a ready recipe with one variant each, which is kept whatever the judge thinks of it."""
    recipe = unjudged(recipes.load(name))
    colours = [another(COLOURS, case.thing.colour, case.held.seed) for case in cases]
    with TemporaryDirectory() as folder:
        table = pa.Table.from_pylist(
            [_product(Path(folder), case, colour) for case, colour in zip(cases, colours, strict=True)]
        )
        rows = inline.run(build(recipe), catalogue.rows(recipe, table, folder))
    last = len(recipe.chain())
    return [
        _edited(case, colour, as_seen_by(row, last)) for case, colour, row in zip(cases, colours, rows, strict=True)
    ]


def unjudged(recipe: Recipe) -> Recipe:
    """A recipe that paints one variant and keeps it, whatever it scores."""
    given = yaml.safe_load(recipes.dump(recipe))
    for step in given.get("steps") or [given]:
        step["paint"] = {**step.get("paint", {}), "variants": 1}
    return recipes.parse({**given, "judge": {"keep": "all"}})


def measure(name: str, edited: Sequence[Edited]) -> dict[str, Figure]:
    """The figures of one recipe's pictures."""
    recipe = recipes.load(name)
    done = [(one, one.picture) for one in edited if one.picture is not None]
    figures = {
        f"{name}: pictures delivered": share([one.picture is not None for one in edited]),
        UNTOUCHED.format(name): share(
            [prove(one.base, picture, one.allow).changed_outside == 0 for one, picture in done]
        ),
    }
    tasks = [step.paint.task for step in recipe.chain()]
    if TASKS[tasks[0]].finds_product:
        found = [(one, _found(one)) for one in edited]
        overlaps = [boundary_iou(mask, one.case.thing.mask) for one, mask in found if mask is not None]
        figures[f"{name}: boundary IoU of the product's mask"] = average(overlaps)
    if tasks[-1] not in SEAMLESS:
        seams = [seam_gradient(picture, one.base, one.allow) for one, picture in done]
        figures[f"{name}: seam, times the source's gradient"] = average([one.ratio for one in seams if one])
    if name in ("replace", "recolour", "insert"):
        seen = [nearest_colour(picture, one.case.thing.mask) == one.asked_colour for one, picture in done]
        figures[f"{name}: asked colour seen"] = share(seen)
    if name in ("background", "studio", "outpaint"):
        figures[f"{name}: product's own pixels unchanged"] = average([unchanged(one, picture) for one, picture in done])
    if name == "background":
        grown = [one.row["variant_scores"][0]["expansion"] for one, _ in done]
        figures["background: growth of the product, share of it"] = average([one for one in grown if one is not None])
    if name == "remove":
        figures |= emptiness([(one, picture) for one, picture in done if not one.case.thing.worn])
    if name == "dress-on-model":
        matting = load_matting()
        left = [_mannequin_left(one, matting) for one, _ in done]
        figures["dress-on-model: mannequin pixels left, by product"] = average(left)
    return figures


def emptiness(done: Sequence[tuple[Edited, Rgb]]) -> dict[str, Figure]:
    """How far the place of a removed product is from the scene drawn without it, and how far the fill alone is."""
    errors, of_fill = [], []
    for one, picture in done:
        height, width = one.allow.shape
        true = rgb2lab(plate(one.case.held.seed, (width, height)))[one.allow]
        errors.append(float(_delta_e(rgb2lab(picture)[one.allow], true).mean()))
        of_fill.append(float(_delta_e(rgb2lab(filled(one.base, one.allow, "telea"))[one.allow], true).mean()))
    return {
        "remove: Delta E 2000 to the scene without the product": average(errors),
        "remove: the same of Telea's fill alone": average(of_fill),
    }


def unchanged(one: Edited, picture: Rgb) -> float:
    """The share of a product's true inner pixels that are in the picture, bit for bit, wherever it lies now."""
    inner = binary_erosion(one.case.thing.mask, iterations=INSIDE_PX)
    if not inner.any():
        return 1.0
    window = padded_window(inner, 0)
    template, mask = one.case.held.scene.rgb[window], inner[window]
    if template.shape[0] > picture.shape[0] or template.shape[1] > picture.shape[1]:
        return 0.0
    weights = np.repeat(mask[..., None].astype(np.float32), 3, 2)
    differences = cv2.matchTemplate(picture, template, cv2.TM_SQDIFF, mask=weights.astype(np.uint8))
    top, left = np.unravel_index(int(np.argmin(differences)), differences.shape)
    there = picture[top : top + template.shape[0], left : left + template.shape[1]]
    return float((there == template).all(2)[mask].mean())


def refusals(name: str, edited: Sequence[Edited]) -> list[str]:
    """A sentence for every reason why pictures were not delivered."""
    reasons = [str(one.row["reason"]) for one in edited if one.picture is None]
    return [f"{name}: {reasons.count(reason)} of {len(edited)} {reason}" for reason in sorted(set(reasons))]


def as_pairs(name: str, edited: Sequence[Edited]) -> list[Pair]:
    """Source and result of each item, as they come."""
    return [Pair(one.case.held.scene.rgb, one.picture, f"{name}: {one.case.thing.category}") for one in edited]


def _suits(name: str, case: Case) -> bool:
    """A model is dressed in what a figure wore."""
    return name != "dress-on-model" or (case.thing.worn and case.thing.category in GARMENTS)


def _product(folder: Path, case: Case, colour: str) -> dict[str, Any]:
    seed, thing = case.held.seed, case.thing
    pictures: dict[str, Callable[[], Rgb]] = {
        "scene": lambda: scene(OTHER_SCENES + seed, SCENE_WH).rgb,
        "reference": lambda: product_picture(replace(thing, colour=colour), seed).rgb,
    }
    for column, drawn in pictures.items():
        (folder / f"{column}-{seed}.png").write_bytes(encode(drawn(), "png"))
    return {
        "sku": str(seed),
        "category": thing.category,
        "colour": colour,
        "pattern": thing.pattern,
        **{column: f"{column}-{seed}.png" for column in pictures},
        "given_image_bytes": case.held.image_bytes,
    }


def _edited(case: Case, colour: str, row: Row) -> Edited:
    files = [file for file in row.get("image_files") or [] if file is not None] if row["status"] == OK else []
    if not files:
        return Edited(case, colour, row, None, case.held.scene.rgb, np.zeros(case.thing.mask.shape, bool))
    return Edited(case, colour, row, decode(files[0]).rgb, base_of(row).rgb, changeable(row))


def _found(one: Edited) -> NDArray[np.bool_] | None:
    masks = one.row.get("object_masks_rle")
    return from_rle(masks[int(np.argmax(one.row["box_scores"]))]) if masks else None


def _mannequin_left(one: Edited, matting: Matting) -> float:
    """Pixels of the cut-out that are mostly the body's who wore the product, as a share of the product's."""
    height, width = one.case.thing.mask.shape
    found = _found(one)
    if found is None:
        return 0.0
    shows = matting(one.case.held.scene.rgb, found).alpha >= HALF
    body = bodies(one.case.held.seed, (width, height))
    return float((shows & body).sum() / one.case.thing.mask.sum())
