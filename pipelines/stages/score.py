"""Measure each variant; raw numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.models import Encoder, Segmenter
from pipelines.models.loading import load_encoder, load_segmenter, make_call
from pipelines.pixels.crops import cut_mask, from_raw, neutral_crop
from pipelines.pixels.masks import bounding_box, from_rle
from pipelines.pixels.reference_foreground import reference_crop
from pipelines.pixels.seams import expansion
from pipelines.recipe.settings import ScoreSettings
from pipelines.rows import CROPS, REGIONS, RLE, SCORES, STRINGS, VARIANT_SCORES, ItemError, Row, Update

Element = TypeVar("Element")
Likeness = list[tuple[float | None, float | None]]
"""A pair a variant: likeness to its prompt, and to the nearest reference."""
BOX_MARGIN = 0.15  # of a product's box, on each side: where it may have grown to


class Score:
    """Measure each variant's likeness to its prompt and references (CLIP, Radford et al. 2021, arXiv:2103.00020).

    Adds one struct a variant, with the fields of `scores.MEASURES`; each value is that of the variant's worst region.
    Products are embedded alone, on neutral grey, and references are cut off their plain ground: whole pictures flatter
    every likeness where they share one background, and hide it where they have two. Likeness to the references is that
    to the nearest one. The ring error is compose's.

    Every score is null where nothing was painted. Text similarity is null for an empty prompt, reference similarity
    without a reference, and both where the settings leave likeness out. A row with a likeness that is no number fails:
    no threshold would refuse it.

    Expansion is measured where a product was kept before a new background: how much more of it SAM sees in the finished
    crop than in the source's, both asked for the same box (Eshratifar et al. 2024, arXiv:2404.10157). It is null
    without SAM.
    """

    pixels_version = 2
    reads = {
        "paint_prompts": STRINGS,
        "reference_bytes": pa.list_(pa.large_binary()),
        "allow_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "finished_crops": CROPS,
        "ring_errors_after": SCORES,
    }
    may_read = {"region_rgb": pa.list_(pa.large_binary())}
    adds = {"variant_scores": pa.list_(VARIANT_SCORES)}

    def __init__(
        self, settings: ScoreSettings, encoder: Encoder | None = None, segmenter: Segmenter | None = None
    ) -> None:
        self.settings = settings
        self.encoder = (encoder or encoder_of(settings)) if settings.likeness else None
        self.segmenter = (segmenter or _segmenter_of(settings)) if settings.segmenter else None

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Embed all rows' crops, prompts and references in one go each."""
        likenesses = self._likenesses(rows)
        return [
            {"variant_scores": _scores(row, likeness, self._expansions(row))}
            if _are_numbers(likeness)
            else ItemError("no_numbers", f"the encoder's likenesses are {likeness}")
            for row, likeness in zip(rows, likenesses, strict=True)
        ]

    def _likenesses(self, rows: Sequence[Row]) -> list[Likeness]:
        if self.encoder is None:
            return [[(None, None)] * len(row["paint_prompts"]) for row in rows]
        crops = [_products(row, self.encoder.side_px) for row in rows]
        prompts = [row["paint_prompts"] for row in rows]
        side_px = self.encoder.side_px
        references = [[reference_crop(one, side_px) for one in row["reference_bytes"] or []] for row in rows]
        pictures = _split(self.encoder.embed_images(_flat(crops)), crops)
        texts = _split(self.encoder.embed_texts(_flat(prompts)), prompts)
        likes = _split(self.encoder.embed_images(_flat(references)), references)
        return [_likeness(*of_row) for of_row in zip(prompts, pictures, texts, likes, strict=True)]

    def _expansions(self, row: Row) -> list[float]:
        """Of each crop, V*R of them; none where growth is not measured."""
        crops = [from_raw(raw) for raw in row["finished_crops"]]
        if self.segmenter is None or not crops:
            return []
        allow, side_px = from_rle(row["allow_mask_rle"]), len(crops[0])
        products = [cut_mask(~allow, tuple(region), side_px) for region in row["regions_xyxy"]]
        sources = [from_raw(raw) for raw in row["region_rgb"]]
        before = self._seen(sources, products)
        count = len(products)
        after = self._seen(crops, [products[index % count] for index in range(len(crops))])
        return [
            expansion(before[index % count] | products[index % count], mask) if products[index % count].any() else 0.0
            for index, mask in enumerate(after)
        ]

    def _seen(
        self, crops: Sequence[NDArray[np.uint8]], products: Sequence[NDArray[np.bool_]]
    ) -> list[NDArray[np.bool_]]:
        """What SAM takes for the product in each crop, asked for its box with a margin."""
        assert self.segmenter is not None
        prompts = [[_box_with_margin(mask)] if mask.any() else [] for mask in products]
        answers = self.segmenter(crops, prompts)
        return [
            some[0].masks[int(np.argmax(some[0].predicted_ious))] if some else np.zeros_like(mask)
            for some, mask in zip(answers, products, strict=True)
        ]


def _products(row: Row, side_px: int) -> list[NDArray[np.uint8]]:
    """What was painted in each crop, on neutral grey."""
    crops = [from_raw(raw) for raw in row["finished_crops"]]
    if not crops:
        return []
    allow, regions = from_rle(row["allow_mask_rle"]), row["regions_xyxy"]
    masks = [cut_mask(allow, tuple(region), len(crops[0])) for region in regions]
    return [neutral_crop(crop, masks[index % len(regions)], side_px) for index, crop in enumerate(crops)]


def encoder_of(settings: ScoreSettings) -> Encoder:
    """The encoder of these settings, on a network that is loaded once a process."""
    return load_encoder(make_call(settings.role, settings.checkpoint, settings.call_size, settings.threads))


def _segmenter_of(settings: ScoreSettings) -> Segmenter:
    assert settings.segmenter is not None
    return load_segmenter(make_call("segmenter", settings.segmenter, settings.call_size, settings.threads))


def _box_with_margin(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    left, top, right, bottom = bounding_box(mask)
    across, down = BOX_MARGIN * (right - left), BOX_MARGIN * (bottom - top)
    height, width = mask.shape
    sides = (max(0, left - across), max(0, top - down), min(width, right + across), min(height, bottom + down))
    return np.array(sides, np.float32)


def _likeness(
    prompts: Sequence[str], pictures: NDArray[np.float32], texts: NDArray[np.float32], likes: NDArray[np.float32]
) -> Likeness:
    found: Likeness = []
    for own, prompt, text in zip(_by_variant(pictures, len(prompts)), prompts, texts, strict=True):
        to_text = float((own @ text).min()) if len(own) and prompt.strip() else None
        found.append((to_text, float((own @ likes.T).max(1).min()) if len(own) and len(likes) else None))
    return found


def _are_numbers(likeness: Likeness) -> bool:
    return all(one is None or math.isfinite(one) for pair in likeness for one in pair)


def _scores(row: Row, likeness: Likeness, grown: Sequence[float]) -> list[Update]:
    count = len(likeness)
    return [
        {
            "text_similarity": to_text,
            "reference_similarity": to_reference,
            "ring_error": max((error for error in errors if error is not None), default=None),
            "expansion": max(growth, default=None),
        }
        for (to_text, to_reference), errors, growth in zip(
            likeness, _by_variant(row["ring_errors_after"], count), _by_variant(grown, count), strict=True
        )
    ]


def _by_variant(flat: Any, count: int) -> list[Any]:
    """A variant-major sequence of V*R, one piece of R a variant; R may be 0."""
    regions = len(flat) // count
    return [flat[variant * regions : (variant + 1) * regions] for variant in range(count)]


def _flat(nested: Sequence[Sequence[Element]]) -> list[Element]:
    return [element for inner in nested for element in inner]


def _split(flat: NDArray[np.float32], like: Sequence[Sequence[Element]]) -> list[NDArray[np.float32]]:
    ends = np.cumsum([0, *(len(inner) for inner in like)])
    return [flat[start:end] for start, end in pairwise(ends)]
