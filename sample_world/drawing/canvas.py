"""The picture as it grows: shapes drawn finely within their own boxes, and what of each product still shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipelines.pixels.cutouts import Cutout
from sample_world.drawing.shapes import Points, Shape, rounded
from sample_world.drawing.textures import COLOURS, PATTERNS, Pixels, product_texture

NOWHERE: Final = np.zeros((0, 0), bool)


@dataclass(frozen=True)
class SceneObject:
    """A product in a scene: its words, the pixels where it shows (H, W), and the box round them, pixels.

    `worn` says that a person wears or carries it. `cloth_seed` is what else its surface depends on: exact shade, the
    pattern's place and direction; a product of the same words and the same seed is the same product.
    """

    category: str
    colour: str
    pattern: str
    mask: NDArray[np.bool_]
    box_xyxy: tuple[float, float, float, float]
    worn: bool = False
    cloth_seed: int = 0


class Canvas:
    """The picture as it grows, and which of the products so far still show.

    A `bare` one draws the same by chance, but leaves out the products that no one wears, and their shadows.
    """

    def __init__(self, rgb: Pixels, rng: np.random.Generator, bare: bool = False) -> None:
        self.rgb = rgb
        self.rng = rng
        self.bare = bare
        self.objects: list[SceneObject] = []
        self.layers: list[tuple[_Drawn, Pixels]] = []
        self.product_layers: list[int] = []
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

    def add_product(self, category: str, shape: Shape, period_px: float, scale: float, worn: bool) -> None:
        """Draw a product in a new look and list it."""
        colour, pattern = self.new_look()
        self.add_this(
            SceneObject(category, colour, pattern, NOWHERE, (0, 0, 0, 0), worn, self._seed()), shape, period_px, scale
        )

    def add_this(self, thing: SceneObject, shape: Shape, period_px: float, scale: float) -> None:
        """Draw a given product and list it with the pixels that it covers."""
        drawn = _rasterise(shape, self.rgb.shape[:2], scale)
        if drawn is None or (self.bare and not thing.worn):
            return
        height, width = drawn.alpha.shape
        cloth = np.random.default_rng(thing.cloth_seed)
        mask = self._blend(
            drawn, product_texture((width, height), thing.colour, thing.pattern, max(period_px, 5), cloth)
        )
        self.objects.append(replace(thing, mask=mask))
        self.product_layers.append(len(self.layers) - 1)

    def cutouts(self) -> list[Cutout]:
        """The exact cut-out of each of `objects`: its own colours, and its share of every pixel under later covers."""
        in_sight = np.ones(self.rgb.shape[:2], np.float32)
        found: dict[int, Cutout] = {}
        for number, (drawn, inked) in reversed(list(enumerate(self.layers))):
            if number in self.product_layers:
                alpha, rgb = np.zeros(in_sight.shape, np.uint8), np.zeros(self.rgb.shape, np.uint8)
                alpha[drawn.box] = np.rint(255 * drawn.alpha * in_sight[drawn.box])
                rgb[drawn.box] = np.clip(inked, 0, 255)
                found[number] = Cutout(rgb, alpha)
            in_sight[drawn.box] *= 1 - drawn.alpha
        return [found[number] for number in self.product_layers]

    def bodies(self) -> NDArray[np.bool_]:
        """Where plain parts show (H, W): no later cover has half of the pixel."""
        shown = np.zeros(self.rgb.shape[:2], bool)
        for number, (drawn, _) in enumerate(self.layers):
            shown[drawn.box] = np.where(drawn.alpha >= 0.5, number not in self.product_layers, shown[drawn.box])
        return shown

    def _seed(self) -> int:
        return int(self.rng.integers(2**31))

    def _blend(self, drawn: "_Drawn", texture: Pixels) -> NDArray[np.bool_]:
        box = drawn.box
        inked = texture * (1 - 0.38 * drawn.ink[..., None])
        self.layers.append((drawn, inked))
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

    @property
    def box(self) -> tuple[slice, slice]:
        """Its rows and columns in the picture."""
        height, width = self.alpha.shape
        return np.s_[self.top : self.top + height, self.left : self.left + width]


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


def placed(
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
