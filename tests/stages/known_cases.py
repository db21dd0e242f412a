"""The cases whose answers are held: each stage on fixed rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import to_rle
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
from tests.stages.made_inputs import (
    HEIGHT,
    SIDE,
    WIDTH,
    FiveBoxes,
    MixingPainter,
    PatternEncoder,
    SteppedMatting,
    box,
    crop,
    grain,
    grid,
    jpeg,
    photo,
    plain_photo,
    png,
    rotated,
    shape,
    to_levels,
)

CHECKPOINT = "/made-up/weights.safetensors"
START = ("region_start",)
LAID_OUT = tuple(Mask.adds)


@dataclass(frozen=True)
class Case:
    """A stage, its settings, the rows that it is called on, and what stands in the place of its networks.

    `soft` names the columns whose values another machine may round in another way.
    """

    stage: Any
    settings: Any
    rows: Sequence[Mapping[str, Any]]
    soft: Collection[str] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

    def answers(self) -> list[dict[str, Any]]:
        """Of each row; of one that failed the reason."""
        answers = self.stage(self.settings, **self.given)(self.rows)
        return [{"reason": one.reason} if isinstance(one, ItemError) else one for one in answers]


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
    yield (
        "a picture on its side, with mask and reference",
        Case(Read, sections.ReadSettings(), [row], soft=tuple(Read.adds)),
    )
    opaque = np.where(BAG, np.uint8(129), np.uint8(126))
    transparent = {**row, "given_image_bytes": png(photo()), "given_mask_bytes": png(photo(), opaque)}
    yield "a mask by transparency", Case(Read, sections.ReadSettings(), [transparent])


def finding() -> Iterator[tuple[str, Case]]:
    for name, asked, row in (
        ("boxes", {}, SOURCE),
        ("boxes, all of them large", {"max_area": 0.1, "nms_iou": 0.9}, SOURCE),
        ("given boxes", {}, {**SOURCE, "given_boxes_xyxy": [[3.0, 4.0, 50.0, 60.0]]}),
    ):
        settings = sections.DetectSettings(checkpoint=CHECKPOINT, **asked)
        yield f"detect: {name}", Case(Detect, settings, [row], given={"detector": FiveBoxes()})
    boxes = {**PLAIN, "boxes_xyxy": [[22.0, 10.0, 74.0, 70.0], [2.0, 2.0, 14.0, 9.0]]}
    points = {**PLAIN, "given_points": [[6.0, 5.0, 1.0]]}
    for name, asked, row in (
        ("best", {}, boxes),
        ("whole", {"detail": "whole"}, boxes),
        ("part", {"detail": "part"}, boxes),
        ("each box by itself", {"crop_margin": 0.35}, boxes),
        ("points", {}, points),
    ):
        settings = sections.SegmentSettings(checkpoint=CHECKPOINT, **asked)
        yield f"segment: {name}", Case(Segment, settings, [row], given={"segmenter": FakeSegmenter()})
    large = {**SOURCE, "image_bytes": png(plain_photo((2304, 120)))}
    pictures = [png(photo()), png(photo((40, 90, 150), (240, 240, 240), (232, 234, 238)))]
    for name, asked, row in (
        ("text", {"negatives": ["a hand"], "min_text_score": -1.0}, PLAIN),
        ("nothing like the text", {}, PLAIN),
        ("reference", {"by": "reference"}, {**PLAIN, "reference_bytes": pictures}),
        ("union", {"choose": "union", "union_margin": 2.0, "crop_margin": 0.4, "min_text_score": -1.0}, PLAIN),
        ("a large picture", {"min_text_score": -1.0}, large),
    ):
        settings = sections.FindSettings(checkpoint=CHECKPOINT, encoder=CHECKPOINT, **asked)
        given = {"proposer": FakeProposer(), "encoder": PatternEncoder(), "segmenter": FakeSegmenter()}
        yield f"find: {name}", Case(Find, settings, [row], soft=("box_scores",), given=given)


def masking() -> Iterator[tuple[str, Case]]:
    def case(row: Mapping[str, Any], layout: Mapping[str, Any], soft: Collection[str] = (), **asked: Any) -> Case:
        settings = sections.MaskSettings(layout=layout, **{"crop_px": SIDE, **asked})
        return Case(Mask, settings, [row], soft, {"matting": SteppedMatting()})

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
        yield f"fill, {fill}", case(FOUND, {"task": "replace", "fill": fill}, soft=START)
    wide = photo((60, 110, 160), size_wh=(1280, 400))
    band = np.zeros((400, 1280), np.bool_)
    band[150:330, 200:1000] = True
    spread = {**SOURCE, "image_bytes": png(wide), "size_wh": [1280, 400], "given_mask_rle": to_rle(band)}
    yield "fill, larger than is worked at", case(spread, {"task": "replace", "fill": "telea"}, soft=START)
    yield "remove", case(FOUND, remove, soft=START, denoise_shape="box", grow=0.04)
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
        yield f"recolour, {name}", case(row, {"task": "recolour"}, soft=START)
    yield "recolour, no colour", case({**HAND, "paint_colour": "no such colour"}, {"task": "recolour"})
    on_white = png(photo(ground=(236, 238, 240)))
    for name, reference in {
        "from a plain ground": on_white,
        "from a darker ground": png(photo((90, 96, 60), (240, 200, 40), (150, 150, 158), (120, 120))),
        "by its transparency": png(photo(), np.where(BAG, np.uint8(200), np.uint8(20))),
        "without a ground": LANDSCAPE,
    }.items():
        yield f"insert, {name}", case({**HAND, "reference_bytes": [reference]}, {"task": "insert"}, soft=START)
    yield "insert, without a reference", case(HAND, {"task": "insert"})
    for edge in ("matte", "hard"):
        yield f"background, {edge}", case(FOUND, {"task": "background", "edge": edge})
    yield "background, a given mask", case({**HAND, "given_mask_rle": to_rle(~BAG)}, {"task": "background"})
    for name, asked in {
        "margins": {"margins": (0.1, 0.3, 0.2, 0.45)},
        "aspect": {"aspect": "2:1", "anchor_xy": (0.3, 0.7)},
        "far": {"margins": (0.0, 2.0, 0.0, 0.0)},
    }.items():
        yield f"outpaint, {name}", case(SOURCE, {"task": "outpaint", **asked}, soft=LAID_OUT)
    yield "outpaint, nothing to grow", case(SOURCE, {"task": "outpaint", "aspect": "6:5"})
    for show in ("product", "cut_out", "alpha", "mask"):
        for frame in ("product", "source"):
            layout = {"task": "studio", "show": show, "frame": frame}
            yield (
                f"studio, {show} in the {frame}'s frame",
                case(FOUND, layout, soft=LAID_OUT if show == "product" else ()),
            )
    for name, asked in {
        "without a shadow": {"shadow": 0.0, "colour": "#f0e8d8"},
        "a darker shadow in a margin": {"shadow": 0.9, "margin": 0.1, "fill": 0.6, "aspect": "4:5"},
        "of an asked size": {"side_px": 100},
    }.items():
        yield f"studio, {name}", case(FOUND, {"task": "studio", **asked}, soft=LAID_OUT)
    cut_off = {**HAND, "given_mask_rle": to_rle(~(BAG & (np.arange(HEIGHT) > 40)[:, None] | box(40, 60, 60, 80)))}
    yield "studio, cut off below", case(cut_off, {"task": "studio"}, soft=LAID_OUT)
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
        yield f"place, {name}", case(row, {"task": "place", **asked}, soft=LAID_OUT)


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
    strip = np.zeros((30, 1130), np.bool_)
    strip[6:22, 10:1120] = True
    long = {
        **SOURCE,
        "image_bytes": png(photo(size_wh=(1130, 30))),
        "size_wh": [1130, 30],
        "given_mask_rle": to_rle(~strip),
    }
    for name, of in {"a ragged mask": row, "no contrast": flat, "in tiles": tiled, "a long product": long}.items():
        yield name, Case(Mask, settings, [of], soft=LAID_OUT)


TWO_REGIONS = {
    **SOURCE,
    **dict.fromkeys(("base_bytes", "canvas_bytes", "overlay_bytes")),
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
        yield f"paint: {name}", Case(Paint, settings, [row], given={"painter": MixingPainter()})
    few = {**TWO_REGIONS, "repaint_mask_rle": to_rle(box(1, 1, 95, 80)), "regions_xyxy": [[0, 0, 96, 96]] * 2}
    for name, row, asked in (
        ("colours fitted", TWO_REGIONS, {}),
        ("colours as painted", TWO_REGIONS, {"colour_fit": False}),
        ("a wide ring and feather", TWO_REGIONS, {"ring_px": 20, "feather_px": 6.5}),
        ("a ring of few pixels", few, {"ring_px": 1}),
    ):
        yield f"compose: {name}", Case(Compose, sections.ComposeSettings(**asked), [row])
    yield "hand_on: on the source", Case(HandOn, sections.DeliverSettings(), [TWO_REGIONS])
    yield "hand_on: on another base", Case(HandOn, sections.DeliverSettings(feather_px=1), [ON_ANOTHER_BASE])


def judging() -> Iterator[tuple[str, Case]]:
    bare = [plain_photo((SIDE, SIDE)).tobytes()] * 2
    grown = [
        {**TWO_REGIONS, "region_rgb": bare, "allow_mask_rle": to_rle(~box(left, 26 - left // 3, 66, 60))}
        for left in range(14, 34, 3)
    ]
    bought = {**TWO_REGIONS, "reference_bytes": [LANDSCAPE, png(photo())]}
    unpainted = {**TWO_REGIONS, "regions_xyxy": [], "finished_crops": [], "ring_errors_after": []}
    for name, rows, asked in (
        ("likeness", [bought], {}),
        ("likeness of empty words", [{**TWO_REGIONS, "paint_prompts": ["", "a bag"]}], {}),
        ("growth", grown, {"segmenter": CHECKPOINT, "likeness": False}),
        ("nothing painted", [unpainted], {}),
    ):
        settings = sections.ScoreSettings(checkpoint=CHECKPOINT, **asked)
        given = {"encoder": PatternEncoder(), "segmenter": FakeSegmenter()}
        yield f"score: {name}", Case(Score, settings, rows, soft=tuple(Score.adds), given=given)
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
    yield "judge: every reason", Case(Judge, settings, [{"variant_scores": scores}])


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
        yield (
            name,
            Case(
                Deliver,
                sections.DeliverSettings(**asked),
                [row],
                soft=tuple(Deliver.adds) if name.startswith("jpeg, ") else (),
            ),
        )


# --- rows on both sides of each threshold that is a constant


def cloth(base: Sequence[int], ink: Sequence[int], share: int, spread: int = 12) -> Rgb:
    """Of 1,000 pixels `share` are ink; the rest is the base, shaded by up to `spread` levels."""
    x, y = grid(40, 25)
    inked = (x + 40 * y) * 617 % 1000 < share
    return to_levels(np.where(inked[..., None], ink, base) - (grain(40, 25, spread, 2)[..., :1]))


def cloths() -> Iterator[tuple[str, Rgb, str]]:
    """Name, picture and asked colour."""
    for step in range(0, 24):
        yield "how much of it has a hue", cloth((128, 126, 124), (60, 120, 200), 380 + 6 * step), "gold"
        yield "how much of it is ink", cloth((235, 235, 235), (20, 20, 20), 60 + 2 * step), "#101014"
        yield "how far its ink is", cloth((150, 150, 150), (108 - step, 108 - step, 109 - step), 300, 2), "#303438"
        yield "how it spreads", cloth((225, 225, 225), (120, 120, 120), 320, 40 + 6 * step), "#282c30"
        yield "which of two greys", cloth((20 + 4 * step,) * 3, (250, 250, 250), 480), "crimson"
        yield "which of two greys, a light one", cloth((130 + 5 * step,) * 3, (8, 8, 8), 480), "crimson"
        tint = (220 - 2 * step, 60 + 5 * step, 40)
        yield (
            "which hue",
            np.where(
                (grid(40, 25)[0] < 21)[..., None], cloth(tint, tint, 0), cloth((60, 160, 50 + 6 * step), (0, 0, 0), 0)
            ),
            "teal",
        )
        yield "how pale its pattern is", cloth((200, 40, 40), (225 + step, 200 + 2 * step, 196 + 2 * step), 300), "navy"


def references() -> Iterator[tuple[str, bytes]]:
    x, y = grid(120, 100)
    disc = (x - 60) * (x - 60) + (y - 50) * (y - 50)
    body = disc < 30 * 30
    rings = np.where(body[..., None], (60, 90, 150), (200, 204, 210)) + grain(120, 100, 3, 4)
    depth = np.clip(150 - disc * 2 // 27, 0, 150)
    in_it = np.where((disc < 12 * 12)[..., None], (200, 40, 40), (236 - depth)[..., None] * np.array([1, 1, 1]))
    yield "a shadow that gets deep", png(to_levels(in_it))
    for step in range(8):
        holes = np.zeros_like(body)
        for number, (wide, high) in enumerate(((6, 9), (6, 10), (7, 8), (5, 11))):
            holes[40 : 40 + high, 38 + 11 * number : 38 + 11 * number + wide + step % 2] = True
        yield (
            "holes in it",
            png(
                to_levels(
                    np.where((body & ~holes)[..., None], (60, 90, 150), (200, 204, 210)) + grain(120, 100, 3, step)
                )
            ),
        )
        small = (x >= 40) & (x < 49 + step) & (y >= 40) & (y < 51)
        yield (
            "a small product",
            png(to_levels(np.where(small[..., None], (20, 20, 30), (230, 230, 230)) + grain(120, 100, 3, step))),
        )
        edge = (y < 3) | (y > 96) | (x < 3)
        tinted = (y + x // 2) % 20 * (3 + step)
        striped = np.where(
            (edge & (x % 3 == 0))[..., None], np.stack([190 + tinted, 200 - tinted, 200 - tinted], -1), rings
        )
        yield "a border of several colours", png(to_levels(striped))
    ramp = to_levels(np.clip((x - 20) * 3, 0, 255))
    yield "a transparency that fades", png(to_levels(rings), ramp)
    big = photo((60, 90, 150), ground=(220, 222, 226), size_wh=(1090, 90))
    yield "larger than is cut", png(big)
    yield "larger than is looked at", png(photo((60, 90, 150), ground=(220, 222, 226), size_wh=(560, 90)))


def rings() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and row of `compose`: the ring is what of the crop is not repainted."""
    x, y = grid(SIDE, SIDE)
    order = x + SIDE * y
    waves = (order * 7 % 16) - 8
    other = (order * 11 // 3 % 16) - 8
    for step in range(12):
        for name, pixels, seen, wanted in (
            ("of few pixels", 11 + step, 3 * waves, 4 * waves),
            ("nearly flat", 320, waves * (30 + 3 * step) // 80, waves * (30 + 3 * step) // 60),
            ("of another pattern", 320, 4 * waves, 2 * waves + (8 - step // 2) * other // 2),
        ):
            yield (
                f"a ring {name}",
                {
                    "allow_mask_rle": to_rle(order >= pixels),
                    "repaint_mask_rle": to_rle(order >= pixels),
                    "regions_xyxy": [[0, 0, SIDE, SIDE]],
                    "region_rgb": [to_levels(120 + np.stack([wanted] * 3, -1)).tobytes()],
                    "variant_crops": [to_levels(130 + np.stack([seen] * 3, -1)).tobytes()],
                },
            )


def sweeps() -> Iterator[tuple[str, Case]]:
    given = {"matting": SteppedMatting()}
    recolour = sections.MaskSettings(layout={"task": "recolour"}, crop_px=SIDE, max_area=1.0)
    everything = {**SOURCE, "size_wh": [40, 25], "given_mask_rle": to_rle(np.ones((25, 40), np.bool_))}
    for name, of in grouped(
        (name, {**everything, "image_bytes": png(rgb), "paint_colour": to}) for name, rgb, to in cloths()
    ):
        yield f"mask: recolour, {name}", Case(Mask, recolour, of, START, given)
    insert = sections.MaskSettings(layout={"task": "insert"}, crop_px=SIDE)
    score = sections.ScoreSettings(checkpoint=CHECKPOINT)
    for name, of in grouped((name, {**HAND, **TWO_REGIONS, "reference_bytes": [one]}) for name, one in references()):
        yield (
            f"mask: insert, {name}",
            Case(Mask, insert, [{**one, "given_mask_rle": to_rle(box(8, 8, 88, 72))} for one in of], START, given),
        )
        yield f"score: likeness, {name}", Case(Score, score, of, tuple(Score.adds), {"encoder": PatternEncoder()})
    for name, of in grouped(rings()):
        yield f"compose: {name}", Case(Compose, sections.ComposeSettings(ring_px=64, feather_px=0), of)
    studio = sections.MaskSettings(layout={"task": "studio", "frame": "source"}, crop_px=SIDE)
    long = []
    for length in (400, 460, 500, 530):
        mask = np.zeros((60, 600), np.bool_)
        mask[12:40, 20 : 20 + length] = True
        mask[40:44, 60:200] = True
        long.append(
            {
                **SOURCE,
                "image_bytes": png(photo(size_wh=(600, 60))),
                "size_wh": [600, 60],
                "given_mask_rle": to_rle(~mask),
            }
        )
    yield "mask: studio, shadows of long products", Case(Mask, studio, long, LAID_OUT, given)
    outpaint = sections.MaskSettings(layout={"task": "outpaint", "margins": (0.1, 0.2, 0.1, 0.2)}, crop_px=SIDE)
    pattern = photo((30, 60, 200), (250, 250, 120), size_wh=(220, 400))[100:300]
    touching = {**SOURCE, "image_bytes": png(np.ascontiguousarray(pattern)), "size_wh": [220, 200]}
    yield "mask: outpaint, a pattern that goes on", Case(Mask, outpaint, [touching], LAID_OUT, given)


def grouped(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """What has one name, together, in the order in which the names come first."""
    groups: dict[str, list[Any]] = {}
    for name, one in named:
        groups.setdefault(name, []).append(one)
    yield from groups.items()


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
    yield from sweeps()


CASES = dict(_named())
