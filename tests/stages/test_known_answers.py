"""What every stage makes of fixed, made inputs is what it made when its `pixels_version` was last raised.

A change of pixels that is in no node key would leave old and new pictures side by side in one catalogue. So the file
beside this one holds, for each case, the stage's `pixels_version` and the sha256 of each column: pictures as decoded
pixels, masks as run lengths, floats to three digits. A case whose pixels come out of logarithms, BLAS, numba or another
program's encoder, which CPUs and versions round differently, is `soft`: every 7th value is kept, and 1 of 500 may
differ. Left out are the hashes of encoded files.

`python -m tests.stages.test_known_answers` writes the file anew, and refuses where an answer changed and the number of
its stage did not.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.models import RGB, Found, Painting
from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.images import encode
from pipelines.pixels.masks import from_rle, to_rle
from pipelines.recipe import settings as sections
from pipelines.rows import ItemError
from pipelines.stages.compose import Compose
from pipelines.stages.deliver import Deliver
from pipelines.stages.detect import Detect
from pipelines.stages.find import Find
from pipelines.stages.hand_on import HandOn
from pipelines.stages.judge import Judge
from pipelines.stages.mask import Mask
from pipelines.stages.paint import Paint
from pipelines.stages.read import Read
from pipelines.stages.score import Score
from pipelines.stages.segment import Segment
from tests.fakes import FakeProposer, FakeSegmenter

FILE = Path(__file__).with_suffix(".json")
STEP = 7
MOST_OFF = 1 / 500
LEFT_OUT = ("source_sha256", "image_sha256s", "outside_sha256s")
SIGNATURES = b"\x89PNG", b"\xff\xd8\xff", b"RIFF"
WIDTH, HEIGHT = 96, 80
SIDE = 64
CHECKPOINT = "/made-up/weights.safetensors"

Bool = NDArray[np.bool_]


# --- inputs, by integer arithmetic


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


def to_levels(numbers: NDArray[np.int64]) -> RGB:
    return np.clip(numbers, 0, 255).astype(np.uint8)


def photo(
    colour: tuple[int, int, int] = (196, 60, 48),
    ink: tuple[int, int, int] | None = None,
    ground: tuple[int, int, int] = (210, 206, 196),
    size_wh: tuple[int, int] = (WIDTH, HEIGHT),
) -> RGB:
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


def plain_photo(size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> RGB:
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


def png(rgb: RGB, alpha: NDArray[np.uint8] | None = None) -> bytes:
    return encode(rgb, "png", alpha=alpha)


def jpeg(rgb: RGB, **how: Any) -> bytes:
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

    def embed_images(self, images: Sequence[RGB]) -> NDArray[np.float32]:
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

    def __call__(self, images: Sequence[RGB], prompts: Sequence[str]) -> list[Found]:
        boxes = [[22, 12, 74, 70], [24, 14, 76, 70], [4, 4, 20, 20], [0, 0, 96, 80], [60, 60, 90, 78]]
        scores = [0.62, 0.7, 0.6, 0.8, 0.3]
        return [
            Found(np.array(boxes, np.float32), np.array(scores, np.float32), (prompt, "b", "c", "d", "e"))
            for prompt in prompts
        ]


@dataclass(frozen=True)
class MixingPainter:
    """Paints what it starts from, moved by seed, prompt and softness, and whitens the rest by two levels."""

    def __call__(self, paintings: Sequence[Painting]) -> list[RGB]:
        return [self._paint(painting) for painting in paintings]

    def _paint(self, painting: Painting) -> RGB:
        start = painting.rgb if painting.start is None else painting.start
        moved = int.from_bytes(
            sha256(f"{painting.seed} {painting.prompt} {painting.negative_prompt}".encode()).digest()[:1]
        )
        soft = 0 if painting.softness is None else np.rint(64 * painting.softness)[..., None].astype(np.int64)
        painted = (start.astype(np.int64) + moved) % 256 - soft
        return to_levels(np.where(painting.repaint_mask[..., None], painted, painting.rgb.astype(np.int64) + 2))


@dataclass(frozen=True)
class SteppedMatting:
    """A cut-out whose edge has three steps, by counting neighbours."""

    def __call__(self, rgb: RGB, product: Bool) -> Cutout:
        padded = np.pad(product, 1).astype(np.int64)
        height, width = product.shape
        near = sum(padded[down : down + height, across : across + width] for down in range(3) for across in range(3))
        alpha = np.where(near == 9, 255, np.where(near > 5, 190, np.where(near > 2, 70, 0))).astype(np.uint8)
        return Cutout(np.where(alpha[..., None] > 0, rgb, np.uint8(0)), alpha)


# --- the cases


@dataclass(frozen=True)
class Case:
    """A stage, its settings, the row that it is called on, and what stands in the place of its networks."""

    stage: Any
    settings: Any
    row: Mapping[str, Any]
    soft: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)

    def answer(self) -> Any:
        (answer,) = self.stage(self.settings, **self.given)([self.row])
        return answer


UNGIVEN: dict[str, Any] = dict.fromkeys(
    ("given_mask_rle", "given_boxes_xyxy", "given_points", "scene_bytes", "front_mask_rle", "paint_colour"), None
)
BAG = shape()
SOURCE = {
    **UNGIVEN,
    "image_bytes": png(photo()),
    "size_wh": [WIDTH, HEIGHT],
    "reference_bytes": [],
    "find_prompt": "a bag",
    "seed_basis": "sku-1",
    "given_seeds": [],
    "paint_prompts": ["a red bag", "a blue bag"],
    "negative_prompt": "blurry",
}
FOUND = {
    **SOURCE,
    "boxes_xyxy": [[22.0, 10.0, 74.0, 70.0], [2.0, 2.0, 18.0, 14.0]],
    "box_scores": [0.8, 0.6],
    "object_masks_rle": [to_rle(BAG | box(88, 2, 90, 4)), to_rle(box(2, 2, 18, 14))],
}
PLAIN = {**SOURCE, "image_bytes": png(plain_photo())}
HAND = {**FOUND, "given_mask_rle": to_rle(BAG)}
LANDSCAPE = png(photo((90, 120, 70), (60, 90, 140), (170, 190, 214), (84, 66)))


def reading() -> Iterator[tuple[str, Case]]:
    row = {
        **dict.fromkeys(Read.reads, None),
        "given_image_bytes": rotated(),
        "given_mask_bytes": png(to_levels(np.where(BAG.T[..., None], 128, 127) + np.zeros((WIDTH, HEIGHT, 3), int))),
        "given_reference_bytes": [png(photo())],
    }
    yield "a picture on its side, with mask and reference", Case(Read, sections.ReadSettings(), row, soft=True)
    opaque = np.where(BAG, np.uint8(129), np.uint8(126))
    transparent = {**row, "given_image_bytes": png(photo()), "given_mask_bytes": png(photo(), opaque)}
    yield "a mask by transparency", Case(Read, sections.ReadSettings(), transparent)


def finding() -> Iterator[tuple[str, Case]]:
    for name, asked, row in (
        ("boxes", {}, SOURCE),
        ("boxes, all of them large", {"max_area": 0.1, "nms_iou": 0.9}, SOURCE),
        ("given boxes", {}, {**SOURCE, "given_boxes_xyxy": [[3.0, 4.0, 50.0, 60.0]]}),
    ):
        settings = sections.DetectSettings(checkpoint=CHECKPOINT, **asked)
        yield f"detect: {name}", Case(Detect, settings, row, given={"detector": FiveBoxes()})
    boxes = {**PLAIN, "boxes_xyxy": [[22.0, 10.0, 74.0, 70.0], [2.0, 2.0, 14.0, 9.0]]}
    points = {**PLAIN, "given_points": [[6.0, 5.0, 1.0]]}
    for name, asked, row in (
        ("best", {}, boxes),
        ("whole", {"detail": "whole"}, boxes),
        ("part", {"detail": "part"}, boxes),
        ("each box by itself", {"room": 0.35}, boxes),
        ("points", {}, points),
    ):
        settings = sections.SegmentSettings(checkpoint=CHECKPOINT, **asked)
        yield f"segment: {name}", Case(Segment, settings, row, given={"segmenter": FakeSegmenter()})
    large = {**SOURCE, "image_bytes": png(plain_photo((2304, 120)))}
    pictures = [png(photo()), png(photo((40, 90, 150), (240, 240, 240), (232, 234, 238)))]
    for name, asked, row in (
        ("text", {"negatives": ["a hand"], "min_text_score": -1.0}, PLAIN),
        ("nothing like the text", {}, PLAIN),
        ("reference", {"by": "reference"}, {**PLAIN, "reference_bytes": pictures}),
        ("union", {"choose": "union", "union_margin": 2.0, "room": 0.4, "min_text_score": -1.0}, PLAIN),
        ("a large picture", {"min_text_score": -1.0}, large),
    ):
        settings = sections.FindSettings(checkpoint=CHECKPOINT, encoder=CHECKPOINT, **asked)
        given = {"proposer": FakeProposer(), "encoder": PatternEncoder(), "segmenter": FakeSegmenter()}
        yield f"find: {name}", Case(Find, settings, row, soft=name in ("reference", "a large picture"), given=given)


def masking() -> Iterator[tuple[str, Case]]:
    def case(row: Mapping[str, Any], layout: Mapping[str, Any], soft: bool = False, **asked: Any) -> Case:
        settings = sections.MaskSettings(layout=layout, **{"crop_px": SIDE, **asked})
        return Case(Mask, settings, row, soft, {"matting": SteppedMatting()})

    replace, remove = {"task": "replace"}, {"task": "remove", "fill": "telea"}
    for name, asked in {
        "as it is by default": {},
        "all in one": {"instances": "all", "close": 0.03, "max_hole": 0.5},
        "each by itself": {"instances": "per_instance"},
        "the largest": {"instances": "largest", "keep_parts": 1},
        "specks stay": {"min_speck": 0.0, "max_hole": 0.0},
        "inverted": {"invert": True},
        "with a shadow's margin": {"shadow_margin": 0.1, "grow": 0.05},
        "a band": {"band_px": 9},
        "denoised in a box": {"denoise_shape": "box", "denoise_grow": 0.06},
        "in small crops": {"crop_px": 72},
    }.items():
        yield f"replace, {name}", case(FOUND, replace, **asked)
    yield "replace, a given mask", case(HAND, replace)
    yield "replace, all but a given mask", case(HAND, replace, invert=True)
    yield "replace, nothing found", case({**FOUND, "object_masks_rle": [to_rle(box(0, 0, 0, 0))] * 2}, replace)
    yield "replace, all of it", case({**HAND, "given_mask_rle": to_rle(box(0, 0, 96, 79))}, replace)
    second = {**FOUND, "finished_bytes": png(photo((30, 120, 60))), "changed_mask_rle": to_rle(box(1, 1, 40, 9))}
    yield "replace, a second step", case(second, replace)
    for fill in ("blur", "neutral", "telea", "navier_stokes", "border", "edge"):
        yield f"fill, {fill}", case(FOUND, {"task": "replace", "fill": fill}, soft=True)
    wide = photo((60, 110, 160), size_wh=(1280, 400))
    band = np.zeros((400, 1280), np.bool_)
    band[150:330, 200:1000] = True
    spread = {**SOURCE, "image_bytes": png(wide), "size_wh": [1280, 400], "given_mask_rle": to_rle(band)}
    yield "fill, larger than is worked at", case(spread, {"task": "replace", "fill": "telea"}, soft=True)
    yield "remove", case(FOUND, remove, soft=True, denoise_shape="box", grow=0.04)
    yield "restyle", case(SOURCE, {"task": "restyle"})
    for name, colours, asked in (
        ("hued", {}, "#2a9d4a"),
        ("hued, with a white pattern", {"ink": (238, 236, 230)}, "navy"),
        ("hued, with another hue", {"ink": (40, 70, 190)}, "gold"),
        ("hued, with a near hue", {"ink": (196, 120, 40)}, "teal"),
        ("white, with dark stripes", {"colour": (240, 238, 234), "ink": (30, 30, 36)}, "crimson"),
        ("white, asked as dark as its ink", {"colour": (240, 238, 234), "ink": (60, 58, 64)}, "#3c3a40"),
        ("black, with light stripes", {"colour": (44, 42, 46), "ink": (214, 210, 205)}, "white"),
        ("grey, with a detail in colour", {"colour": (128, 128, 130), "ink": (120, 134, 110)}, "#e8c020"),
        ("half hued", {"colour": (150, 142, 136), "ink": (200, 60, 50)}, "#8040c0"),
    ):
        row = {**HAND, "image_bytes": png(photo(**colours)), "paint_colour": asked}
        yield f"recolour, {name}", case(row, {"task": "recolour"}, soft=True)
    yield "recolour, no colour", case({**HAND, "paint_colour": "no such colour"}, {"task": "recolour"})
    on_white = png(photo(ground=(236, 238, 240)))
    for name, reference in {
        "from a plain ground": on_white,
        "from a darker ground": png(photo((90, 96, 60), (240, 200, 40), (150, 150, 158), (120, 120))),
        "by its transparency": png(photo(), np.where(BAG, np.uint8(200), np.uint8(20))),
        "without a ground": LANDSCAPE,
    }.items():
        yield f"insert, {name}", case({**HAND, "reference_bytes": [reference]}, {"task": "insert"}, soft=True)
    yield "insert, without a reference", case(HAND, {"task": "insert"})
    for edge in ("matte", "hard"):
        yield f"background, {edge}", case(FOUND, {"task": "background", "edge": edge})
    yield "background, a given mask", case({**HAND, "given_mask_rle": to_rle(~BAG)}, {"task": "background"})
    for name, asked in {
        "margins": {"margins": (0.1, 0.3, 0.2, 0.45)},
        "aspect": {"aspect": "2:1", "anchor_xy": (0.3, 0.7)},
        "far": {"margins": (0.0, 2.0, 0.0, 0.0)},
    }.items():
        yield f"outpaint, {name}", case(SOURCE, {"task": "outpaint", **asked}, soft=True)
    yield "outpaint, nothing to grow", case(SOURCE, {"task": "outpaint", "aspect": "6:5"})
    for show in ("product", "cut_out", "alpha", "mask"):
        for frame in ("product", "source"):
            layout = {"task": "studio", "show": show, "frame": frame}
            yield f"studio, {show} in the {frame}'s frame", case(FOUND, layout, soft=show == "product")
    for name, asked in {
        "without a shadow": {"shadow": 0.0, "colour": "#f0e8d8"},
        "a darker shadow in a margin": {"shadow": 0.9, "margin": 0.1, "fill": 0.6, "aspect": "4:5"},
        "of an asked size": {"side_px": 100},
    }.items():
        yield f"studio, {name}", case(FOUND, {"task": "studio", **asked}, soft=True)
    cut_off = {**HAND, "given_mask_rle": to_rle(~(BAG & (np.arange(HEIGHT) > 40)[:, None] | box(40, 60, 60, 80)))}
    yield "studio, cut off below", case(cut_off, {"task": "studio"}, soft=True)
    placed = {**FOUND, "scene_bytes": LANDSCAPE}
    front = np.zeros((66, 84), np.bool_)
    front[20:40, 36:48] = True
    for name, row, asked in (
        ("as it is by default", placed, {}),
        ("turned", placed, {"rotation_deg": 25.0, "height": 0.7, "centre_xy": (0.3, 0.5)}),
        ("behind a front", {**placed, "front_mask_rle": to_rle(front)}, {"shadow": 0.8, "seam_px": 7}),
        ("over the border", placed, {"centre_xy": (0.95, 0.9), "seam_px": 0}),
        ("outside", placed, {"centre_xy": (4.0, 4.0)}),
    ):
        yield f"place, {name}", case(row, {"task": "place", **asked}, soft=True)


def closed_form() -> Iterator[tuple[str, Case]]:
    """The mask stage with its own matting, whose pixels are in no key either."""
    ragged = BAG ^ (np.roll(BAG, 2, 1) & (np.arange(WIDTH) % 5 == 0))
    row = {**FOUND, "object_masks_rle": [to_rle(ragged)] * 2}
    flat = {**row, "image_bytes": png(photo((206, 204, 196), ground=(210, 206, 196)))}
    large = photo(size_wh=(420, 360))
    tiled = {
        **SOURCE,
        "image_bytes": png(large),
        "size_wh": [420, 360],
        "given_mask_rle": to_rle(~shape(420, 360)),
    }
    settings = sections.MaskSettings(layout={"task": "background"}, crop_px=SIDE)
    for name, of in {"a ragged mask": row, "no contrast": flat, "in tiles": tiled}.items():
        yield name, Case(Mask, settings, of, soft=True)


TWO_REGIONS = {
    **SOURCE,
    "allow_mask_rle": to_rle(BAG | box(2, 2, 18, 14)),
    "repaint_mask_rle": to_rle(box(18, 6, 78, 74) | box(0, 0, 21, 17)),
    "changed_mask_rle": to_rle(BAG | box(2, 2, 30, 14)),
    "regions_xyxy": [[8, 0, 88, 80], [-20, -20, 44, 44]],
    "region_rgb": [photo(size_wh=(SIDE, SIDE)).tobytes(), photo((60, 90, 200), size_wh=(SIDE, SIDE)).tobytes()],
    "region_start": None,
    "variant_crops": [crop(basis) for basis in range(4)],
    "finished_crops": [crop(basis) for basis in range(4)],
    "ring_errors_after": [3.5, 7.25, None, 1.0],
    "variant_kept": [True, False],
}
ON_ANOTHER_BASE = {
    **TWO_REGIONS,
    "base_bytes": png(photo((90, 90, 60))),
    "canvas_bytes": png(photo((90, 160, 60))),
    "overlay_bytes": png(
        photo(), np.where(box(30, 20, 60, 50), np.uint8(255), np.where(BAG, np.uint8(99), np.uint8(0)))
    ),
}


def painting() -> Iterator[tuple[str, Case]]:
    started = {**TWO_REGIONS, "region_start": [crop(5), crop(6)]}
    for name, row, asked in (
        ("seeds by the item", TWO_REGIONS, {"seed": 3}),
        ("a start and given seeds", {**started, "given_seeds": [11, 12]}, {}),
        ("a soft edge", started, {"soft_denoise_px": 6}),
    ):
        settings = sections.PaintSettings(checkpoint=CHECKPOINT, **asked)
        yield f"paint: {name}", Case(Paint, settings, row, given={"painter": MixingPainter()})
    # Rows as narrow as this ring lie at the bounds of the colour fit's constants.
    few = {**TWO_REGIONS, "repaint_mask_rle": to_rle(box(1, 1, 95, 80)), "regions_xyxy": [[0, 0, 96, 96]] * 2}
    for name, row, asked in (
        ("colours fitted", TWO_REGIONS, {}),
        ("colours as painted", TWO_REGIONS, {"colour_fit": False}),
        ("a wide ring and feather", TWO_REGIONS, {"ring_px": 20, "feather_px": 6.5}),
        ("a ring of few pixels", few, {"ring_px": 1}),
    ):
        yield f"compose: {name}", Case(Compose, sections.ComposeSettings(**asked), row)
    yield "hand_on: on the source", Case(HandOn, sections.DeliverSettings(), {**TWO_REGIONS, **NO_CANVAS})
    yield "hand_on: on another base", Case(HandOn, sections.DeliverSettings(feather_px=1), ON_ANOTHER_BASE)


NO_CANVAS: dict[str, Any] = dict.fromkeys(("base_bytes", "canvas_bytes", "overlay_bytes"))


def judging() -> Iterator[tuple[str, Case]]:
    bare = [plain_photo((SIDE, SIDE)).tobytes()] * 2
    grown = {**TWO_REGIONS, "region_rgb": bare, "allow_mask_rle": to_rle(~box(36, 30, 60, 56))}
    for name, row, asked in (
        ("likeness", {**TWO_REGIONS, "reference_bytes": [LANDSCAPE, png(photo())]}, {}),
        ("likeness of empty words", {**TWO_REGIONS, "paint_prompts": ["", "a bag"]}, {}),
        ("growth", grown, {"segmenter": CHECKPOINT, "likeness": False}),
        ("nothing painted", {**TWO_REGIONS, "regions_xyxy": [], "finished_crops": [], "ring_errors_after": []}, {}),
    ):
        settings = sections.ScoreSettings(checkpoint=CHECKPOINT, **asked)
        given = {"encoder": PatternEncoder(), "segmenter": FakeSegmenter()}
        yield f"score: {name}", Case(Score, settings, row, soft=name == "likeness", given=given)
    names = ("text_similarity", "reference_similarity", "ring_error", "expansion")
    scores = [
        dict(zip(names, one, strict=True))
        for one in (
            (0.31, None, 4.0, None),
            (0.31, None, 3.0, 0.01),
            (0.19, 0.9, 1.0, None),
            (0.5, 0.1, 1.0, None),
            (0.9, 0.8, 41.0, None),
            (0.9, 0.8, 1.0, 0.06),
            (0.35, 0.2, None, None),
            (None, None, None, None),
            (float("nan"), None, 1.0, None),
        )
    ]
    settings = sections.JudgeSettings(keep_best=3, min_reference_similarity=0.15)
    yield "judge: every reason", Case(Judge, settings, {"variant_scores": scores})


def delivering() -> Iterator[tuple[str, Case]]:
    source_jpeg = {**TWO_REGIONS, "image_bytes": jpeg(photo()), "variant_kept": [True, True]}
    clear = np.where(box(0, 0, 96, 30), np.uint8(90), np.uint8(255))
    for name, row, asked in (
        ("png", TWO_REGIONS, {"format": "png"}),
        ("png, with transparency", {**TWO_REGIONS, "image_bytes": png(photo(), clear)}, {"format": "png"}),
        ("png, on another base", ON_ANOTHER_BASE, {"format": "png", "feather_px": 1.5}),
        ("webp", TWO_REGIONS, {"format": "webp"}),
        ("jpeg, blocks kept", source_jpeg, {"format": "jpeg"}),
        ("jpeg, of a png", TWO_REGIONS, {"format": "jpeg"}),
        ("jpeg, not exact", TWO_REGIONS, {"format": "jpeg", "exact": False}),
        ("nothing kept", {**TWO_REGIONS, "variant_kept": [False, False]}, {}),
    ):
        yield name, Case(Deliver, sections.DeliverSettings(**asked), row, soft=name.startswith("jpeg, "))


def _named() -> Iterator[tuple[str, Case]]:
    for name, case in reading():
        yield f"read: {name}", case
    yield from finding()
    for name, case in masking():
        yield f"mask: {name}", case
    for name, case in closed_form():
        yield f"mask: closed form, {name}", case
    yield from painting()
    yield from judging()
    for name, case in delivering():
        yield f"deliver: {name}", case


CASES = dict(_named())


# --- answers as they are kept


def kept(case: Case) -> dict[str, Any]:
    """A case's answer: each column's sha256, or, of a soft case, values that can be compared."""
    answer = case.answer()
    columns = {"reason": answer.reason} if isinstance(answer, ItemError) else answer
    forms = {name: form(value, case.soft) for name, value in columns.items() if name not in LEFT_OUT}
    return {
        "pixels_version": case.stage.pixels_version,
        "columns": forms if case.soft else {name: digest(json.dumps(one)) for name, one in forms.items()},
    }


def form(value: Any, soft: bool) -> Any:
    """A value without what another version of an encoder, or another CPU, may write in another way."""
    if isinstance(value, bytes):
        return pixels(value, soft)
    if isinstance(value, Mapping):
        if "counts" in value:
            return levels(from_rle(value).astype(np.uint8)) if soft else [list(value["size"]), value["counts"]]
        return {name: form(one, soft) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [form(one, soft) for one in value]
    if isinstance(value, float | np.floating):
        return str(value) if math.isnan(value) else round(float(value), 3)
    return value


def pixels(data: bytes, soft: bool) -> str:
    """A picture's channels, or a raw crop's, (H, W, C) or (N,)."""
    shown = np.frombuffer(data, np.uint8)
    if data.startswith(SIGNATURES):
        with Image.open(BytesIO(data)) as image:
            shown = np.asarray(image)
    return levels(shown) if soft else digest(f"{shown.shape} {shown.tobytes().hex()}")


def levels(shown: NDArray[np.uint8]) -> str:
    """Every 7th value of an array behind its shape, as text; `values` gives them back."""
    thinned = zlib.compress(shown.ravel()[::STEP].tobytes(), 9)
    return f"levels {'x'.join(map(str, shown.shape))} {base64.b85encode(thinned).decode('ascii')}"


def values(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(base64.b85decode(text.split()[2])), np.uint8)


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def agree(old: Any, new: Any) -> bool:
    """Whether two answers are one, as closely as their case is compared."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(agree(old[name], new[name]) for name in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(agree, old, new))
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) < 0.0015
    if all(isinstance(one, str) and one.startswith("levels ") for one in (old, new)):
        same_shape = old.split()[1] == new.split()[1]
        return same_shape and bool((values(old) != values(new)).mean() <= MOST_OFF)
    return bool(old == new)


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The columns in which two answers of a case differ."""
    before, now = old["columns"], new["columns"]
    return [name for name in sorted({*before, *now}) if not agree(before.get(name), now.get(name))]


def rewritten(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What the file is to hold: new answers, and old ones where they agree, so that soft values do not wander.

    Raises:
        ValueError: an answer changed, and the `pixels_version` of its stage did not.
    """
    for name, answer in new.items():
        if name in old and changed(old[name], answer) and answer["pixels_version"] <= old[name]["pixels_version"]:
            raise ValueError(told(name, changed(old[name], answer)))
    return {
        name: {**answer, "columns": old[name]["columns"]} if name in old and not changed(old[name], answer) else answer
        for name, answer in new.items()
    }


def told(name: str, columns: Sequence[str]) -> str:
    return (
        f"the output of `{name.partition(':')[0]}` changed ({name}: {', '.join(columns)}): raise its pixels_version, "
        "so that what was rendered is made anew, and rewrite the file by `python -m tests.stages.test_known_answers`, "
        "or undo the change"
    )


# --- tests


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return answers


def test_the_file_holds_every_case_and_no_other(file):
    assert list(file) == list(CASES), "rewrite the file by `python -m tests.stages.test_known_answers`"


@pytest.mark.parametrize("name", CASES)
def test_a_stage_makes_what_it_made(name, file):
    answer = kept(CASES[name])

    assert not changed(file[name], answer), told(name, changed(file[name], answer))
    assert answer["pixels_version"] == file[name]["pixels_version"], (
        f"the pixels_version of `{name.partition(':')[0]}` changed and its output did not: set it back, or rewrite the "
        "file by `python -m tests.stages.test_known_answers`"
    )


def test_a_changed_answer_is_written_only_where_its_number_was_raised():
    def of(version: int, column: str) -> dict[str, Any]:
        return {"mask: one": {"pixels_version": version, "columns": {"base_bytes": column}}}

    assert rewritten(of(3, "old"), of(4, "new")) == of(4, "new")
    with pytest.raises(ValueError, match=r"the output of `mask` changed \(mask: one: base_bytes\): raise its pixels"):
        rewritten(of(3, "old"), of(3, "new"))


def test_a_soft_answer_may_differ_in_one_value_of_five_hundred():
    picture = to_levels(grain(70, 70, 256, 9))
    few, many = picture.copy(), picture.copy()
    few.ravel()[:: STEP * 700] ^= 1
    many.ravel()[:: STEP * 300] ^= 1

    assert agree(levels(picture), levels(few))
    assert not agree(levels(picture), levels(many))
    assert not agree(levels(picture), levels(picture[:60]))


if __name__ == "__main__":
    old = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    try:
        answers = rewritten(old, {name: kept(case) for name, case in CASES.items()})
    except ValueError as error:
        sys.exit(str(error))
    FILE.write_text(json.dumps(answers, indent=1) + "\n", "utf-8")
