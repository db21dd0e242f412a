"""Pictures, masks and crops by integer arithmetic, the same on every machine, and fakes that show what they got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.models import Found, Painting
from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.images import Rgb, encode

WIDTH, HEIGHT = 96, 80
SIDE = 64

Bool = NDArray[np.bool_]


def grid(width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of every pixel, (H, W) each."""
    y, x = np.mgrid[0:height, 0:width]
    return x.astype(np.int64), y.astype(np.int64)


def grain(width: int, height: int, levels: int, basis: int) -> NDArray[np.int64]:
    """What looks like noise of 0 to `levels` - 1, (H, W, 3)."""
    x, y = grid(width, height)
    mixed = ((x * 374_761_393 + y * 668_265_263 + basis * 97) & 0xFFFFFFFF) * 2_246_822_519 & 0xFFFFFFFF
    mixed = (mixed ^ (mixed >> 13)) * 3_266_489_917 & 0xFFFFFFFF
    return np.stack([(mixed >> shift) % levels for shift in (8, 13, 18)], axis=-1)


def shape(width: int = WIDTH, height: int = HEIGHT) -> Bool:
    """A bag: a body with cut corners, and a handle with a hole."""
    x, y = grid(width, height)
    u, v = (2 * x - width) * 100 // width, (2 * y - height) * 100 // height
    body = (abs(u) < 52) & (v > -20) & (v < 72) & (abs(u) + abs(v - 26) < 85)
    ring = u * u + (v + 22) * (v + 22)
    return body | ((ring < 34 * 34) & (ring > 20 * 20) & (v < -10))


def to_levels(numbers: NDArray[np.int64]) -> Rgb:
    return np.clip(numbers, 0, 255).astype(np.uint8)


def photo(
    colour: tuple[int, int, int] = (196, 60, 48),
    ink: tuple[int, int, int] | None = None,
    ground: tuple[int, int, int] = (210, 206, 196),
    size_wh: tuple[int, int] = (WIDTH, HEIGHT),
) -> Rgb:
    """A bag on a ground that gets darker to one side, with a shadow; of a pattern, where there is an ink."""
    width, height = size_wh
    x, y = grid(width, height)
    product = shape(width, height)
    below = np.roll(product, (height // 20, width // 24), (0, 1)) & ~product
    shade = 100 - 30 * x // width - 12 * ((x // 5 + y // 7) % 2)
    stripes = (x + y) % 12 < 4
    cloth = np.where((stripes & product)[..., None], ink or colour, colour) * shade[..., None] // 100
    behind = np.asarray(ground) + (y // 6 - x // 9)[..., None] - 28 * below[..., None]
    return to_levels(np.where(product[..., None], cloth, behind) + grain(width, height, 5, 1) - 2)


def plain_photo(size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> Rgb:
    """Two bags on one flat colour, which the fakes tell from what stands on it."""
    width, height = size_wh
    product = shape(width, height)
    speck = np.zeros_like(product)
    speck[2 : height // 8, 2 : width // 6] = True
    picture = np.where(product[..., None], photo(size_wh=size_wh), np.uint8(230))
    return np.where(speck[..., None], to_levels(40 + grain(width, height, 60, 3)), picture).astype(np.uint8)


def crop(basis: int) -> bytes:
    """A painted crop: the photo's tone with a gain, an offset and a grain of its own."""
    painted = photo((40 + 30 * basis, 90, 150), size_wh=(SIDE, SIDE)).astype(np.int64)
    return to_levels(painted * (9 + basis) // 11 + 7 + grain(SIDE, SIDE, 9, basis)).tobytes()


def png(rgb: Rgb, alpha: NDArray[np.uint8] | None = None) -> bytes:
    return encode(rgb, "png", alpha=alpha)


def jpeg(rgb: Rgb, **how: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=90, **how)
    return file.getvalue()


def rotated() -> bytes:
    """A JPEG that lies on its side, as a camera writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(photo(), exif=exif)


def box(left: int, top: int, right: int, bottom: int) -> Bool:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


# --- fakes whose answers hang on every pixel that they are shown


@dataclass(frozen=True)
class PatternEncoder:
    """Embeds a picture as its sums under four patterns and a text as its letters, of unit length."""

    side_px: int = 32

    def embed_images(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        patterns = [grain(self.side_px, self.side_px, 41, basis) - 20 for basis in range(4)]
        return self._unit([[int((image * pattern).sum()) for pattern in patterns] for image in images])

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._unit([[len(text), *(text.count(letter) - 1 for letter in "aeo")] for text in texts])

    def _unit(self, vectors: list[list[int]]) -> NDArray[np.float32]:
        stacked = np.array(vectors, np.float64).reshape(-1, 4)
        return (stacked / np.linalg.norm(stacked, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class FiveBoxes:
    """A detector: two boxes on one thing, one beside them, one over all, and one that it hardly trusts."""

    def __call__(self, images: Sequence[Rgb], prompts: Sequence[str]) -> list[Found]:
        boxes = [[22, 12, 74, 70], [24, 14, 76, 70], [4, 4, 20, 20], [0, 0, 96, 80], [60, 60, 90, 78]]
        scores = [0.62, 0.7, 0.6, 0.8, 0.3]
        return [
            Found(np.array(boxes, np.float32), np.array(scores, np.float32), (prompt, "b", "c", "d", "e"))
            for prompt in prompts
        ]


@dataclass(frozen=True)
class MixingPainter:
    """Paints what it starts from, moved by seed, prompt and softness, and whitens the rest by two levels."""

    def __call__(self, paintings: Sequence[Painting]) -> list[Rgb]:
        return [self._paint(painting) for painting in paintings]

    def _paint(self, painting: Painting) -> Rgb:
        start = painting.rgb if painting.start is None else painting.start
        moved = int.from_bytes(
            sha256(f"{painting.seed} {painting.prompt} {painting.negative_prompt}".encode()).digest()[:1]
        )
        soft = 0 if painting.softness is None else np.rint(64 * painting.softness)[..., None].astype(np.int64)
        painted = (start.astype(np.int64) + moved) % 256 - soft
        return to_levels(np.where(painting.inpaint_mask[..., None], painted, painting.rgb.astype(np.int64) + 2))


@dataclass(frozen=True)
class SteppedMatting:
    """A cut-out whose edge goes by how many neighbours a pixel has in the mask."""

    def __call__(self, rgb: Rgb, product: Bool) -> Cutout:
        padded = np.pad(product, 1).astype(np.int64)
        height, width = product.shape
        near = sum(padded[down : down + height, across : across + width] for down in range(3) for across in range(3))
        alpha = np.array((0, 0, 30, 60, 95, 124, 130, 190, 225, 255), np.uint8)[near]
        return Cutout(np.where(alpha[..., None] > 0, rgb, np.uint8(0)), alpha)
