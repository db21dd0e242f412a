"""SAM's automatic masks by the segment-anything package: whatever a grid of points lies on (Kirillov et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from pipelines.models import RGB, Proposals
from pipelines.models.sam import SamSegmenter
from pipelines.pixels.images import thumbnail
from pipelines.pixels.masks import to_rle
from pipelines.recipe.settings import SegmentSettings

if TYPE_CHECKING:
    from pipelines.recipe.settings import FindSettings

Masks = list[dict[str, Any]]


class SamProposer:
    """A Proposer: `SamAutomaticMaskGenerator` on a copy no larger than the network sees.

    A point says little of how far a thing reaches, a box nearly all: with `box_rounds`, the box round each mask is
    asked for again, and the reading with the highest predicted IoU takes the mask's place. Pictures are worked on one
    at a time, so an answer never depends on batch mates.

    Source: the point grid, its thresholds and its suppression of doubles are Kirillov et al. 2023, arXiv:2304.02643,
    appendix B, by its authors' code.
    """

    def __init__(self, network: Sam, settings: FindSettings) -> None:
        self.generator = SamAutomaticMaskGenerator(
            network,
            points_per_side=settings.points_per_side,
            points_per_batch=settings.call_size,
            pred_iou_thresh=settings.min_predicted_iou,
            stability_score_thresh=settings.min_stability,
            box_nms_thresh=settings.box_nms_iou,
            crop_n_layers=settings.crop_layers,
            crop_n_points_downscale_factor=2,
            output_mode="coco_rle",
        )
        asked_again = SegmentSettings(checkpoint=settings.checkpoint, call_size=1, threads=settings.threads)
        self.segmenter = SamSegmenter(network, asked_again)
        self.box_rounds = settings.box_rounds
        # Each layer of crops halves the side of what is encoded at once, so the copy may be twice as large.
        self.longest_px = network.image_encoder.img_size * 2**settings.crop_layers
        self.threads = settings.threads

    def __call__(self, images: Sequence[RGB]) -> Iterator[Proposals]:
        """One answer an image, in order, made when it is asked for."""
        for image in images:
            yield self._propose(thumbnail(image, self.longest_px))

    def _propose(self, small: RGB) -> Proposals:
        torch.set_num_threads(self.threads)
        found = self._generated(small)
        masks = [one["segmentation"] for one in found]
        ious = np.array([one["predicted_iou"] for one in found], np.float32)
        for _ in range(self.box_rounds):
            masks, ious = self._cut_again(small, masks)
        return Proposals(tuple(masks), ious)

    def _generated(self, small: RGB) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self.generator.generate(small)
        except IndexError:  # what the package raises where it looks at crops and no crop has a mask
            if self.generator.crop_n_layers == 0:
                raise
            return []
        return found

    def _cut_again(self, small: RGB, masks: Masks) -> tuple[Masks, NDArray[np.float32]]:
        boxes = [np.array(_box_xyxy(mask), np.float32) for mask in masks]
        (readings,) = self.segmenter([small], [boxes])
        best = [int(np.argmax(one.predicted_ious)) for one in readings]
        ious = [one.predicted_ious[index] for one, index in zip(readings, best, strict=True)]
        return [to_rle(one.masks[index]) for one, index in zip(readings, best, strict=True)], np.array(ious, np.float32)


def _box_xyxy(mask_rle: dict[str, Any]) -> tuple[float, float, float, float]:
    left, top, width, height = coco.toBbox(mask_rle)
    return left, top, left + width, top + height
