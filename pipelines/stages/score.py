"""Measure each variant; raw numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.models import Encoder
from pipelines.models.loading import load_encoder
from pipelines.pixels.crops import cut_mask, from_raw, neutral_crop
from pipelines.pixels.images import decode
from pipelines.pixels.masks import from_rle
from pipelines.recipe import ScoreSettings
from pipelines.rows import CROPS, RLE, SCORES, STRINGS, VARIANT_SCORES, ItemError, Row, Update
from pipelines.stages.mask import REGIONS

Element = TypeVar("Element")


class Score:
    """Measure likeness to the prompt and to the references (CLIP, Radford et al. 2021, arXiv:2103.00020).

    Looks at the product alone, on neutral grey: whole pictures with one background flatter every likeness. Adds one
    struct a variant, each figure that of the variant's worst region: `text_similarity` and `reference_similarity`
    (cosine with the nearest reference; null without one), and compose's `ring_error`.
    """

    pixels_version = 1
    reads = {
        "paint_prompts": STRINGS,
        "reference_bytes": pa.list_(pa.large_binary()),
        "allow_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "finished_crops": CROPS,
        "ring_errors_after": SCORES,
    }
    adds = {"variant_scores": pa.list_(VARIANT_SCORES)}

    def __init__(self, settings: ScoreSettings, encoder: Encoder | None = None) -> None:
        self.encoder = encoder or load_encoder(settings)

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Embed all rows' crops, prompts and references in one go each."""
        crops = [self._products(row) for row in rows]
        prompts = [row["paint_prompts"] for row in rows]
        references = [[decode(reference).rgb for reference in row["reference_bytes"] or []] for row in rows]
        pictures = _split(self.encoder.embed_images(_flat(crops)), crops)
        texts = _split(self.encoder.embed_texts(_flat(prompts)), prompts)
        likes = _split(self.encoder.embed_images(_flat(references)), references)
        return [{"variant_scores": _scores(*parts)} for parts in zip(rows, pictures, texts, likes, strict=True)]

    def _products(self, row: Row) -> list[NDArray[np.uint8]]:
        allow, regions = from_rle(row["allow_mask_rle"]), row["regions_xyxy"]
        crops = [from_raw(raw) for raw in row["finished_crops"]]
        masks = [cut_mask(allow, tuple(region), len(crops[0])) for region in regions]
        return [
            neutral_crop(crop, masks[index % len(regions)], self.encoder.side_px) for index, crop in enumerate(crops)
        ]


def _scores(
    row: Row, pictures: NDArray[np.float32], texts: NDArray[np.float32], likes: NDArray[np.float32]
) -> list[Update]:
    count = len(row["regions_xyxy"])
    scores: list[Update] = []
    for variant, text in enumerate(texts):
        own = pictures[variant * count : (variant + 1) * count]
        errors = [
            error for error in row["ring_errors_after"][variant * count : (variant + 1) * count] if error is not None
        ]
        scores.append(
            {
                "text_similarity": float((own @ text).min()),
                "reference_similarity": float((own @ likes.T).max(1).min()) if len(likes) else None,
                "ring_error": max(errors) if errors else None,
            }
        )
    return scores


def _flat(nested: Sequence[Sequence[Element]]) -> list[Element]:
    return [element for inner in nested for element in inner]


def _split(flat: NDArray[np.float32], like: Sequence[Sequence[Element]]) -> list[NDArray[np.float32]]:
    ends = np.cumsum([0, *(len(inner) for inner in like)])
    return [flat[start:end] for start, end in pairwise(ends)]
