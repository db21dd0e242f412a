"""Draw a catalogue picture whose every box, mask and caption is known exactly."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.cutouts import Cutout
from sample_world.drawing.canvas import Canvas, SceneObject, placed
from sample_world.drawing.shapes import ALONE, BODY, HAIR, HEAD, WORN, Shape
from sample_world.drawing.textures import BACKGROUNDS, background, grain

__all__ = [
    "CATALOGUE_SEED",
    "HELD_OUT_SEED",
    "TRAINING_SEED",
    "Scene",
    "SceneObject",
    "bodies",
    "caption",
    "cutouts",
    "example_size",
    "product_picture",
    "scene",
]

TRAINING_SEED: Final = 0
HELD_OUT_SEED: Final = 1_000_000
CATALOGUE_SEED: Final = 2_000_000
MIN_OBJECT_PX: Final = 24
FIGURE_SHARE: Final = 0.62
OF_A_KIND_SHARE: Final = 0.25
SKINS: Final = ((236, 200, 172), (205, 155, 120), (150, 105, 75), (105, 72, 52), (226, 226, 222))
HAIRS: Final = ((45, 35, 30), (95, 62, 38), (190, 150, 90), (130, 125, 120))


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3), its products in the order in which they were drawn, and the background's name."""

    rgb: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    background: str


def caption(thing: SceneObject) -> str:
    """`a striped red shirt`; a plain one is `a red shirt`."""
    pattern = "" if thing.pattern == "plain" else f"{thing.pattern} "
    return f"a {pattern}{thing.colour} {thing.category}"


def scene(seed: int, size_wh: tuple[int, int] = (512, 512)) -> Scene:
    """Draw the scene of a seed: people or mannequins in several garments, products alone, or two or three of a kind.

    Args:
        seed: the same seed and size give the same pixels.
        size_wh: width and height, pixels; 256 to 2000 each and no longer than twice the other side.

    Returns:
        The scene. Masks are what is visible, after what was drawn later covered it; a product of which fewer than 24
        pixels are left is not listed.

    Raises:
        ValueError: the size is outside those limits.
    """
    if not all(256 <= side <= 2000 for side in size_wh) or max(size_wh) > 2 * min(size_wh):
        raise ValueError(f"a scene of {size_wh!r} pixels; expected sides of 256 to 2000 and at most 2:1")
    return _finished_scene(*_drawn(seed, size_wh))


def cutouts(seed: int, size_wh: tuple[int, int] = (512, 512)) -> tuple[Cutout, ...]:
    """The exact cut-outs of `scene(seed, size_wh).objects`, in their order; without the picture's grain."""
    canvas, _ = _drawn(seed, size_wh)
    exact = zip(canvas.cutouts(), canvas.objects, strict=True)
    return tuple(cutout for cutout, thing in exact if _finished(thing) is not None)


def bodies(seed: int, size_wh: tuple[int, int] = (512, 512)) -> NDArray[np.bool_]:
    """Where people and mannequins themselves show in `scene(seed, size_wh)` (H, W): skin and hair, no product."""
    canvas, _ = _drawn(seed, size_wh)
    return canvas.bodies()


def plate(seed: int, size_wh: tuple[int, int] = (512, 512)) -> NDArray[np.uint8]:
    """`scene(seed, size_wh)` without the products that no one wears, and without their shadows (H, W, 3)."""
    return _finished_scene(*_drawn(seed, size_wh, bare=True)).rgb


def _drawn(seed: int, size_wh: tuple[int, int], bare: bool = False) -> tuple[Canvas, str]:
    rng = np.random.default_rng(seed)
    name = str(rng.choice(BACKGROUNDS))
    canvas = Canvas(background(name, size_wh, rng), rng, bare)
    places = _places(size_wh, rng)
    of_a_kind = _any_product(rng) if len(places) > 1 and rng.random() < OF_A_KIND_SHARE else None
    for left, top, width, height in places:
        if of_a_kind is None and rng.random() < FIGURE_SHARE:
            _draw_figure(canvas, left, top, width, height)
        else:
            _draw_product(canvas, left, top, width, height, of_a_kind or _any_product(rng))
    return canvas, name


def example_size(seed: int) -> tuple[int, int]:
    """The picture size of a seed in training and held-out sets: longest side 256 to 512, any aspect to 2:1."""
    rng = np.random.default_rng((seed, 1))
    aspect = 2 ** rng.uniform(-1, 1)
    longest = rng.uniform(256, 512)
    width, height = longest * min(1, aspect), longest * min(1, 1 / aspect)
    grow = max(1, 256 / min(width, height))
    return round(width * grow), round(height * grow)


def product_picture(thing: SceneObject, seed: int, side_px: int = 256) -> Scene:
    """The same product by itself on a studio background: what a shop shows beside the picture of a person wearing it.

    Args:
        thing: its words and `cloth_seed` are kept; where it was and how large is not.
        seed: of its place, size and background.
        side_px: width and height of the picture.
    """
    rng = np.random.default_rng((seed, 2))
    size_wh = side_px, side_px
    canvas = Canvas(background("studio", size_wh, rng), rng)
    _draw_product(canvas, 0, 0, side_px, side_px, thing.category, thing)
    return _finished_scene(canvas, "studio")


def _finished_scene(canvas: Canvas, name: str) -> Scene:
    height, width = canvas.rgb.shape[:2]
    rgb = np.clip(canvas.rgb + grain((width, height), canvas.rng), 0, 255).astype(np.uint8)
    found = (_finished(thing) for thing in canvas.objects)
    return Scene(rgb, tuple(thing for thing in found if thing is not None), name)


def _finished(thing: SceneObject) -> SceneObject | None:
    if thing.mask.sum() < MIN_OBJECT_PX:
        return None
    rows, columns = np.flatnonzero(thing.mask.any(1)), np.flatnonzero(thing.mask.any(0))
    return replace(thing, box_xyxy=(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)))


def _places(size_wh: tuple[int, int], rng: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """One to three places side by side (left, top, width, height), or two over each other in a tall picture."""
    width, height = size_wh
    if width / height < 0.7:
        rows = 2 if rng.random() < 0.25 else 1
        return [(0, row * height / rows, width, height / rows) for row in range(rows)]
    most = 3 if width / height > 1.4 else 2 if width / height > 0.85 else 1
    columns = int(rng.integers(1, most + 1))
    return [(column * width / columns, 0, width / columns, height) for column in range(columns)]


def _draw_figure(canvas: Canvas, left: float, top: float, width: float, height: float) -> None:
    """A person or mannequin in a dress or two garments, sometimes with a hat and a bag."""
    rng = canvas.rng
    scale = min(height * 0.97, width / 0.72) * rng.uniform(0.82, 1)
    move_xy = (
        left + (width - scale) / 2 + rng.uniform(-0.5, 0.5) * max(0, width - 0.74 * scale),
        top + scale * 0.025 + rng.uniform(0, 1) * max(0, height - 1.02 * scale),
    )
    squeeze, flip = rng.uniform(0.92, 1.12), bool(rng.random() < 0.5)

    def here(shape: Shape) -> Shape:
        return placed(shape, rng, scale, move_xy, squeeze, flip)

    skin = SKINS[rng.integers(len(SKINS))]
    canvas.shadow(move_xy[0] + scale / 2, move_xy[1] + 0.965 * scale, 0.5 * scale)
    canvas.add(here(Shape(BODY)), skin, scale)
    canvas.add(here(Shape((HEAD,))), skin, scale)
    if skin != SKINS[-1]:
        canvas.add(here(Shape((HAIR,))), HAIRS[rng.integers(len(HAIRS))], scale)
    period_px = scale * rng.uniform(0.055, 0.08)
    for category in _outfit(rng):
        canvas.add_product(category, here(WORN[category]), period_px, scale, worn=True)


def _outfit(rng: np.random.Generator) -> list[str]:
    """What a figure wears, undermost first."""
    upper = str(rng.choice(["shirt", "jacket", "dress"]))
    lower = [] if upper == "dress" else [str(rng.choice(["trousers", "skirt"]))]
    return lower + [upper] + ["hat"] * (rng.random() < 0.4) + ["bag"] * (rng.random() < 0.4)


def _any_product(rng: np.random.Generator) -> str:
    return str(rng.choice(list(ALONE)))


def _draw_product(
    canvas: Canvas,
    left: float,
    top: float,
    width: float,
    height: float,
    category: str,
    given: SceneObject | None = None,
) -> None:
    """One product by itself, large in its place, standing on its own shadow; a given one, or one of a new look."""
    rng = canvas.rng
    shape = ALONE[category]
    points = np.concatenate([np.asarray(fill) for fill in shape.fills])
    low, high = points.min(0), points.max(0)
    scale = min(width, height) * rng.uniform(0.5, 0.86) / (high - low).max()
    size = (high - low) * scale
    free = np.maximum(0, (width, height) - size)
    corner = np.array((left, top)) + free * (rng.uniform(0.15, 0.85), rng.uniform(0.3, 0.85))
    in_pixels = placed(shape, rng, scale, tuple(corner - low * scale))
    if not canvas.bare:
        canvas.shadow(corner[0] + size[0] / 2, corner[1] + size[1], size[0] * 1.15)
    period_px = size.max() * rng.uniform(0.09, 0.13)
    if given is None:
        canvas.add_product(category, in_pixels, period_px, size.max(), worn=False)
    else:
        canvas.add_this(replace(given, worn=False), in_pixels, period_px, size.max())
