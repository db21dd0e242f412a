"""Find the product among everything that can be cut out: by text, or by its reference pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.models import Call, Encoder, Grid, Proposals, Proposer, Segmenter
from pipelines.models.loading import load_encoder, load_proposer, load_segmenter, make_call
from pipelines.models.per_box import PerBoxSegmenter
from pipelines.pixels.images import Rgb, decode, thumbnail
from pipelines.pixels.masks import bounding_box, drop_specks, fill_holes, from_rle, to_rle
from pipelines.pixels.proposals import (
    enlarged,
    product_crop,
    united,
    within_shares,
    without_doubles,
)
from pipelines.pixels.reference_foreground import reference_crop
from pipelines.recipe.settings import FindSettings
from pipelines.rows import BOXES, RLE, SCORES, STRINGS, ItemError, Row, Update, pictures

REFERENCE_LABEL = "reference"
RANKED_PX = 2048  # of the longest side: a product a tenth as wide still has what an encoder of 224 pixels can see


class Find:
    """Find the product among SAM's automatic masks (Kirillov et al. 2023, arXiv:2304.02643), ranked by CLIP.

    Does what `Detect` and `Segment` do together, for prompts that a detector does not know, or with no text at all.
    Each candidate is embedded alone on grey. Its likeness by text is the cosine with the prompt less that with the
    nearest negative; by reference, the cosine with the nearest of the item's reference pictures, each cut off its plain
    ground. Its score is that times the IoU that SAM predicts for it: a ragged part of a product is nearly as much like
    the words as the whole.

    Adds the best `keep` candidates, best first: masks (H, W) as RLE (with `crop_margin` segmented once more, each in a
    crop of its own), the boxes round them, their scores, and the predicted IoUs; `box_labels` says what was asked. With
    `choose: union` one more mask, of all candidates nearly as good as the best, comes before them with the best's
    scores. A row whose best candidate is below the least score is rejected as `nothing_found` and keeps its candidates,
    so that their scores can be seen; a row with a given mask passes by; by reference, one without references has
    failed.
    """

    pixels_version = 2
    reads = {
        "image_bytes": pa.large_binary(),
        "given_mask_rle": RLE,
        "find_prompt": pa.string(),
        "reference_bytes": pa.list_(pa.large_binary()),
    }
    may_read = {"finished_bytes": pa.large_binary()}
    adds = {
        "boxes_xyxy": BOXES,
        "box_scores": SCORES,
        "box_labels": STRINGS,
        "object_masks_rle": pa.list_(RLE),
        "mask_scores": SCORES,
    }

    def __init__(
        self,
        settings: FindSettings,
        proposer: Proposer | None = None,
        encoder: Encoder | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.settings = settings
        self.proposer = proposer or proposer_of(settings)
        self.segmenter = (
            PerBoxSegmenter(segmenter or load_segmenter(_call(settings, 1)), settings.crop_margin)
            if settings.crop_margin
            else None
        )
        self.encoder = encoder or _encoder_of(settings)
        self.negatives = self.encoder.embed_texts(settings.negatives)

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Cut out and rank one picture after the other; full-size masks are made of what is kept alone."""
        updates: list[Update | ItemError] = [{} for _ in rows]
        asked = []
        for index, row in enumerate(rows):
            if row["given_mask_rle"] is not None:
                continue
            if self.settings.by == "reference" and not row["reference_bytes"]:
                updates[index] = ItemError("reference_needed", "`find.by: reference` compares with the item's pictures")
            else:
                asked.append(index)
        images = [decode(pictures(rows[index]).named(self.settings.on)).rgb for index in asked]
        for index, image, proposals in zip(asked, images, self.proposer(images), strict=True):
            updates[index] = self._update(rows[index], image, proposals)
        return updates

    def _update(self, row: Row, image: Rgb, proposals: Proposals) -> Update:
        masks, ious = self._candidates(proposals)
        seen = thumbnail(image, RANKED_PX)
        crops = [product_crop(seen, from_rle(mask), self.encoder.side_px) for mask in masks]
        scores = ious * self._alike(row, self.encoder.embed_images(crops))
        best = np.argsort(-scores, kind="stable")[: self.settings.keep]
        found = [masks[index] for index in best]
        if self.settings.choose == "union" and len(best):
            near = scores[best] >= scores[best[0]] - self.settings.union_margin
            found = [united([mask for mask, is_near in zip(found, near, strict=True) if is_near]), *found]
            best = np.insert(best, 0, best[0])
        by_words = self.settings.by == "clip"
        full = [self._cut_again(image, enlarged(from_rle(mask), (image.shape[0], image.shape[1]))) for mask in found]
        update: Update = {
            "boxes_xyxy": [[float(side) for side in bounding_box(mask)] for mask in full],
            "box_scores": scores[best].tolist(),
            "box_labels": [row["find_prompt"] if by_words else REFERENCE_LABEL] * len(best),
            "object_masks_rle": [to_rle(mask) for mask in full],
            "mask_scores": ious[best].tolist(),
        }
        min_score = self.settings.min_text_score if by_words else self.settings.min_reference_score
        if not len(best) or not scores[best[0]] >= min_score:  # a NaN is below every threshold
            update["reason"] = "nothing_found"
        return update

    def _cut_again(self, image: Rgb, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The mask segmented once more from the box round it; as it was without a segmenter, or where that is empty."""
        if self.segmenter is None:
            return mask
        ((answer,),) = self.segmenter([image], [[np.array(bounding_box(mask), np.float32)]])
        cut = answer.masks[int(np.argmax(answer.predicted_ious))]
        return fill_holes(cut, self.settings.max_hole) if cut.any() else mask

    def _candidates(self, proposals: Proposals) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
        whole = [self._tidy(mask) for mask in proposals.masks_rle]
        sized = within_shares(whole, self.settings.min_area, self.settings.max_area)
        masks, ious = [whole[index] for index in sized], proposals.predicted_ious[sized]
        kept = without_doubles(masks, ious, self.settings.nms_iou)
        return [masks[index] for index in kept], ious[kept]

    def _tidy(self, mask_rle: Mapping[str, Any]) -> dict[str, Any]:
        whole = drop_specks(from_rle(mask_rle), self.settings.min_speck)
        return to_rle(fill_holes(whole, self.settings.max_hole))

    def _alike(self, row: Row, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.settings.by == "reference":
            references = [reference_crop(encoded, self.encoder.side_px) for encoded in row["reference_bytes"]]
            return reference_scores(pictures, self.encoder.embed_images(references))
        prompt = row["find_prompt"]
        others = [number for number, words in enumerate(self.settings.negatives) if not _words(words) <= _words(prompt)]
        return text_scores(pictures, self.encoder.embed_texts([prompt])[0], self.negatives[others])


def text_scores(
    pictures: NDArray[np.float32], text: NDArray[np.float32], negatives: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How much more each picture is like the text than like the nearest negative: (N,) differences of cosines.

    Args:
        pictures: (N, D) of unit length; N may be 0.
        text: (D,) of unit length.
        negatives: (M, D) of unit length; without any, the score is the cosine with the text.
    """
    alike = pictures @ text
    return alike - (pictures @ negatives.T).max(1) if len(negatives) else alike


def reference_scores(pictures: NDArray[np.float32], references: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of each picture (N, D) with the nearest of its references (M, D): (N,). M is at least 1.

    The nearest and not the mean: references show the product from several sides, and a picture shows one of them.
    """
    return np.asarray((pictures @ references.T).max(1))


def proposer_of(settings: FindSettings) -> Proposer:
    """The proposer of these settings, on SAM's network, which is loaded once a process."""
    grid = Grid(
        points_per_side=settings.points_per_side,
        crop_layers=settings.crop_layers,
        min_predicted_iou=settings.min_predicted_iou,
        min_stability=settings.min_stability,
        box_nms_iou=settings.box_nms_iou,
        box_rounds=settings.box_rounds,
    )
    return load_proposer(_call(settings, settings.call_size), grid)


def _call(settings: FindSettings, call_size: int) -> Call:
    return make_call(settings.role, settings.checkpoint, call_size, settings.threads)


def _encoder_of(settings: FindSettings) -> Encoder:
    return load_encoder(make_call("encoder", settings.encoder, settings.encoder_call_size, settings.threads))


def _words(text: str) -> set[str]:
    return set(text.lower().split()) - {"a", "an", "the"}
