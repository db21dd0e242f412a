"""Cloth, paint and backgrounds, computed only for the rectangle that shows them."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS: Final = {
    "red": (200, 40, 40),
    "green": (50, 150, 70),
    "blue": (45, 80, 190),
    "yellow": (235, 205, 60),
    "orange": (235, 135, 45),
    "purple": (130, 70, 170),
    "pink": (240, 150, 185),
    "black": (35, 35, 38),
    "white": (245, 245, 242),
    "brown": (120, 80, 50),
}
PATTERNS: Final = ("plain", "striped", "dotted", "checked")
BACKGROUNDS: Final = ("studio", "gradient", "wood", "wall", "sky")
# A pattern's second ink goes by the colour's name, not by its jitter: a colour and a pattern name one look.
TAKES_DARK_INK: Final = frozenset({"yellow", "pink", "white"})
DARK_INK: Final = (52, 52, 60)
LIGHT_INK: Final = (248, 248, 243)
COLOUR_JITTER: Final = 10

Pixels = NDArray[np.floating[Any]]


def product_texture(
    size_wh: tuple[int, int], colour: str, pattern: str, period_px: float, rng: np.random.Generator
) -> Pixels:
    """A product's surface (H, W, 3), 0 to 255: its colour, its pattern of about `period_px`, and soft shading."""
    width, height = size_wh
    base = np.array(COLOURS[colour], np.float32) + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3).astype(np.float32)
    ink = np.array(DARK_INK if colour in TAKES_DARK_INK else LIGHT_INK, np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    share = _ink_share(pattern, (x / period_px + rng.uniform()) % 1, (y / period_px + rng.uniform()) % 1, rng)
    slope_x, slope_y, folds = rng.uniform(-0.1, 0.1), rng.uniform(-0.08, 0.08), rng.uniform(1.5, 4)
    across = 1 + slope_x * (2 * x / width - 1) + 0.04 * np.sin(x / width * folds * np.pi + rng.uniform(0, 6))
    shade = across + slope_y * (2 * y / height - 1)
    return np.asarray((base + share[..., None] * (ink - base)) * shade[..., None], np.float32)


def _ink_share(pattern: str, x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    """How much of the second ink each pixel has; `x` (W) and `y` (H, 1) count periods. Always less than half is ink."""
    none = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    if pattern == "striped":
        along: Pixels = x if rng.random() < 0.5 else y
        return none + (along < 0.4).astype(np.float32)
    if pattern == "dotted":
        return none + ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.28**2)
    if pattern == "checked":
        return np.where((x < 0.42) != (y < 0.42), 0.6, none)
    return none


def background(name: str, size_wh: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """A background (H, W, 3), 0 to 255; `name` is one of BACKGROUNDS."""
    width, height = size_wh
    x = np.arange(width, dtype=np.float32) / max(size_wh)
    y = np.arange(height, dtype=np.float32)[:, None] / max(size_wh)
    return np.ascontiguousarray(np.broadcast_to(_DRAW[name](x, y, rng), (height, width, 3)), np.float32)


def grain(size_wh: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Fine sensor noise (H, W, 1): a small tile repeated; drawn for every pixel it would cost more than the rest."""
    tile: Pixels = rng.normal(0, 1.3, (128, 128, 1)).astype(np.float32)
    return np.tile(tile, (-(-size_wh[1] // 128), -(-size_wh[0] // 128), 1))[: size_wh[1], : size_wh[0]]


def _studio(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    tint = rng.uniform(214, 250) + rng.uniform(-4, 4, 3)
    glow = 1 - 0.12 * ((x - x.mean()) ** 2 + (y - 0.4 * y.max()) ** 2)
    return np.asarray(np.minimum(tint * glow[..., None], 253))


def _gradient(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    top, bottom = rng.uniform(130, 248, 3), rng.uniform(130, 248, 3)
    down = (y / y.max() + 0 * x)[..., None]
    return np.asarray(top + (bottom - top) * down)


def _wood(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    planks = rng.uniform(4, 7)
    plank = np.floor(y * planks).astype(int)
    tone = rng.uniform(0.9, 1.08, 16)[plank % 16] * rng.uniform(0.85, 1.1)
    veins = 0.05 * np.sin(y * rng.uniform(90, 140) + 3 * np.sin(x * rng.uniform(3, 6) + plank * 2.1) + plank)
    gap = np.where((y * planks) % 1 < 0.025, 0.7, 1.0)
    return np.asarray(np.array([186, 142, 98]) * ((1 + veins) * tone * gap)[..., None])


def _wall(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    colour, rows = rng.uniform(150, 228, 3), rng.uniform(8, 13)
    row = y * rows
    joint = (row % 1 < 0.08) | ((x * rows / 2 + np.floor(row) * 0.5) % 1 < 0.04)
    return np.asarray(colour * np.where(joint, 0.87, 1.0)[..., None])


def _sky(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    down = (y / y.max() + 0 * x)[..., None]
    clouds = np.asarray(
        Image.fromarray(rng.uniform(0, 1, (4, 5)).astype(np.float32)).resize((x.size, y.size), Image.Resampling.BICUBIC)
    )
    air = np.array([140, 190, 235]) + np.array([50, 32, 12]) * down + 45 * np.clip(clouds - 0.55, 0, 1)[..., None]
    ground = np.array([212, 193, 150]) * rng.uniform(0.85, 1.08) * (1 - 0.15 * (down - 0.7))
    return np.asarray(np.where(down > rng.uniform(0.62, 0.82), ground, air))


_DRAW: Final[dict[str, Callable[[Pixels, Pixels, np.random.Generator], NDArray[np.floating]]]] = {
    "studio": _studio,
    "gradient": _gradient,
    "wood": _wood,
    "wall": _wall,
    "sky": _sky,
}
