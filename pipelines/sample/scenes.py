"""Draw a catalogue picture whose every box, mask and caption is known exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipelines.sample.shapes import ALONE, BODY, HAIR, HEAD, WORN, Points, Shape, rounded
from pipelines.sample.textures import BACKGROUNDS, COLOURS, PATTERNS, Pixels, background, grain, product_texture

TRAINING_SEED: Final = 0
HELD_OUT_SEED: Final = 1_000_000
CATALOGUE_SEED: Final = 2_000_000
MIN_OBJECT_PX: Final = 24
SKINS: Final = ((236, 200, 172), (205, 155, 120), (150, 105, 75), (105, 72, 52), (226, 226, 222))
HAIRS: Final = ((45, 35, 30), (95, 62, 38), (190, 150, 90), (130, 125, 120))


@dataclass(frozen=True)
class SceneObject:
    """A product in a scene: its words, the pixels where it shows (H, W), and the box round them, pixels."""

    category: str
    colour: str
    pattern: str
    mask: NDArray[np.bool_]
    box_xyxy: tuple[float, float, float, float]


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
    """Draw the scene of a seed: people or mannequins in several garments, and products alone.

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
    rng = np.random.default_rng(seed)
    name = str(rng.choice(BACKGROUNDS))
    canvas = _Canvas(background(name, size_wh, rng), rng)
    for left, top, width, height in _places(size_wh, rng):
        if rng.random() < 0.62:
            _draw_figure(canvas, left, top, width, height)
        else:
            _draw_product(canvas, left, top, width, height)
    rgb = np.clip(canvas.rgb + grain(size_wh, rng), 0, 255).astype(np.uint8)
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


class _Canvas:
    """The picture as it grows, and which of the products so far still show."""

    def __init__(self, rgb: Pixels, rng: np.random.Generator) -> None:
        self.rgb = rgb
        self.rng = rng
        self.objects: list[SceneObject] = []
        self.looks: list[tuple[str, str]] = []

    def new_look(self) -> tuple[str, str]:
        """A colour and a pattern that no other product of this picture has."""
        while True:
            look = str(self.rng.choice(list(COLOURS))), str(self.rng.choice(PATTERNS))
            if look not in self.looks:
                self.looks.append(look)
                return look

    def add(self, shape: Shape, colour: Sequence[float], scale: float) -> None:
        """Draw a plain part that is no product, such as a body; it covers what is below."""
        drawn = _rasterise(shape, self.rgb.shape[:2], scale)
        if drawn is not None:
            self._blend(drawn, np.broadcast_to(np.asarray(colour, np.float32), (*drawn.alpha.shape, 3)))

    def add_product(self, category: str, shape: Shape, period_px: float, scale: float) -> None:
        """Draw a product in a new look and list it."""
        drawn = _rasterise(shape, self.rgb.shape[:2], scale)
        if drawn is None:
            return
        colour, pattern = self.new_look()
        height, width = drawn.alpha.shape
        mask = self._blend(drawn, product_texture((width, height), colour, pattern, max(period_px, 5), self.rng))
        self.objects.append(SceneObject(category, colour, pattern, mask, (0, 0, 0, 0)))

    def _blend(self, drawn: "_Drawn", texture: Pixels) -> NDArray[np.bool_]:
        height, width = drawn.alpha.shape
        box = np.s_[drawn.top : drawn.top + height, drawn.left : drawn.left + width]
        inked = texture * (1 - 0.38 * drawn.ink[..., None])
        self.rgb[box] += drawn.alpha[..., None] * (inked - self.rgb[box])
        mask = np.zeros(self.rgb.shape[:2], bool)
        mask[box] = drawn.alpha >= 0.5
        for thing in self.objects:
            thing.mask[box] &= ~mask[box]
        return mask

    def shadow(self, centre_x: float, y: float, width: float) -> None:
        """Darken the ground softly where something stands on it."""
        left, right = max(0, round(centre_x - width / 2)), min(self.rgb.shape[1], round(centre_x + width / 2))
        top, bottom = max(0, round(y - width / 12)), min(self.rgb.shape[0], round(y + width / 12))
        if right - left < 4 or bottom - top < 2:
            return
        across, down = np.linspace(-1, 1, right - left), np.linspace(-1, 1, bottom - top)[:, None]
        fall = np.clip(1 - across**2 - down**2, 0, 1) ** 1.5
        self.rgb[top:bottom, left:right] *= (1 - 0.35 * fall[..., None]).astype(np.float32)


@dataclass(frozen=True)
class _Drawn:
    """A shape's coverage and its ink lines (h, w), 0 to 1, and where they go."""

    alpha: Pixels
    ink: Pixels
    left: int
    top: int


def _rasterise(shape: Shape, size_hw: tuple[int, int], scale: float) -> _Drawn | None:
    """Draw a shape that is given in pixels, several times finer than the picture and only within its own box."""
    points = np.concatenate([np.asarray(fill) for fill in shape.fills])
    left, top = np.maximum(np.floor(points.min(0)).astype(int) - 2, 0)
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int) + 2, size_hw[::-1])
    if right - left < 1 or bottom - top < 1:
        return None
    fine = 4 if scale < 700 else 2
    alpha = Image.new("L", (int(right - left) * fine, int(bottom - top) * fine))
    ink = alpha.copy()
    draw, pen = ImageDraw.Draw(alpha), ImageDraw.Draw(ink)

    def at(outline: Points) -> list[tuple[float, float]]:
        return [((x - left) * fine, (y - top) * fine) for x, y in outline]

    for fill in shape.fills:
        draw.polygon(at(fill), fill=255)
    for hole in shape.holes:
        draw.polygon(at(hole), fill=0)
    line_px = max(fine, round(scale * fine / 180))
    for line in shape.lines:
        pen.line(at(line), fill=255, width=line_px, joint="curve")
    outline = Image.eval(
        alpha.reduce(fine).filter(ImageFilter.BoxBlur(float(max(0.6, scale / 250)))), lambda value: 255 - value
    )
    covered = np.asarray(alpha.reduce(fine), np.float32) / 255
    edge = np.clip(np.asarray(outline, np.float32) / 140, 0, 1) * (covered > 0.2)
    return _Drawn(covered, np.maximum(edge, np.asarray(ink.reduce(fine), np.float32) / 255), int(left), int(top))


def _placed(
    shape: Shape,
    rng: np.random.Generator,
    scale: float,
    move_xy: tuple[float, float],
    squeeze: float = 1.0,
    flip: bool = False,
) -> Shape:
    """A shape in pixels: jittered a little, squeezed about its middle, mirrored, scaled and moved."""
    jitter = {point: rng.uniform(-0.005, 0.005, 2) for fill in shape.fills for point in fill}

    def move(outline: Points, corners: bool) -> Points:
        points = np.array([np.add(point, jitter.get(point, (0, 0))) for point in outline])
        points[:, 0] = 0.5 + (points[:, 0] - 0.5) * squeeze * (-1 if flip else 1)
        points = (rounded(points) if corners else points) * scale + move_xy
        return tuple(map(tuple, points.tolist()))

    return Shape(
        tuple(move(fill, True) for fill in shape.fills),
        tuple(move(hole, True) for hole in shape.holes),
        tuple(move(line, False) for line in shape.lines),
    )


def _draw_figure(canvas: _Canvas, left: float, top: float, width: float, height: float) -> None:
    """A person or mannequin in a dress or two garments, sometimes with a hat and a bag."""
    rng = canvas.rng
    scale = min(height * 0.97, width / 0.72) * rng.uniform(0.82, 1)
    move_xy = (
        left + (width - scale) / 2 + rng.uniform(-0.5, 0.5) * max(0, width - 0.74 * scale),
        top + scale * 0.025 + rng.uniform(0, 1) * max(0, height - 1.02 * scale),
    )
    squeeze, flip = rng.uniform(0.92, 1.12), bool(rng.random() < 0.5)

    def placed(shape: Shape) -> Shape:
        return _placed(shape, rng, scale, move_xy, squeeze, flip)

    skin = SKINS[rng.integers(len(SKINS))]
    canvas.shadow(move_xy[0] + scale / 2, move_xy[1] + 0.965 * scale, 0.5 * scale)
    canvas.add(placed(Shape(BODY)), skin, scale)
    canvas.add(placed(Shape((HEAD,))), skin, scale)
    if skin != SKINS[-1]:
        canvas.add(placed(Shape((HAIR,))), HAIRS[rng.integers(len(HAIRS))], scale)
    period_px = scale * rng.uniform(0.055, 0.08)
    for category in _outfit(rng):
        canvas.add_product(category, placed(WORN[category]), period_px, scale)


def _outfit(rng: np.random.Generator) -> list[str]:
    """What a figure wears, undermost first."""
    upper = str(rng.choice(["shirt", "jacket", "dress"]))
    lower = [] if upper == "dress" else [str(rng.choice(["trousers", "skirt"]))]
    return lower + [upper] + ["hat"] * (rng.random() < 0.4) + ["bag"] * (rng.random() < 0.4)


def _draw_product(canvas: _Canvas, left: float, top: float, width: float, height: float) -> None:
    """One product by itself, large in its place, standing on its own shadow."""
    rng = canvas.rng
    category = str(rng.choice(list(ALONE)))
    shape = ALONE[category]
    points = np.concatenate([np.asarray(fill) for fill in shape.fills])
    low, high = points.min(0), points.max(0)
    scale = min(width, height) * rng.uniform(0.5, 0.86) / (high - low).max()
    size = (high - low) * scale
    free = np.maximum(0, (width, height) - size)
    corner = np.array((left, top)) + free * (rng.uniform(0.15, 0.85), rng.uniform(0.3, 0.85))
    placed = _placed(shape, rng, scale, tuple(corner - low * scale))
    canvas.shadow(corner[0] + size[0] / 2, corner[1] + size[1], size[0] * 1.15)
    canvas.add_product(category, placed, size.max() * rng.uniform(0.09, 0.13), size.max())
