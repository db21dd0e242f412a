"""Is the mask that comes of a box the product's?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.masks import from_rle
from pipelines.pixels.overlap import boundary_iou, mask_iou
from sample_world.evaluation.cases import Case, Held, products
from sample_world.evaluation.detection import Answered
from sample_world.evaluation.figures import Figure, average
from sample_world.evaluation.through import Through

Boxed = tuple[Case, Sequence[float]]


def measure_segmentation(through: Through, scenes: list[Held], answers: Sequence[Answered]) -> dict[str, Figure]:
    """The figures of the node `segment`: from the boxes that were found, and from the products' true ones."""
    found = [(Case(one.held, one.thing), one.box_xyxy) for one in answers if one.thing and one.box_xyxy]
    true: list[Boxed] = [(case, case.thing.box_xyxy) for case in products(scenes, of_their_kind_alone=True)]
    from_found, from_true = _pairs(through, found), _pairs(through, true)
    return {
        "mask IoU from the detected box": average([mask_iou(*pair) for pair in from_found]),
        "boundary IoU from the detected box": average([boundary_iou(*pair) for pair in from_found]),
        "mask IoU from the true box": average([mask_iou(*pair) for pair in from_true]),
        "boundary IoU from the true box": average([boundary_iou(*pair) for pair in from_true]),
    }


def _pairs(through: Through, boxed: Sequence[Boxed]) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """The mask of each box, and the true one; all boxes of a scene in one row, so that it is encoded once."""
    of_scene: dict[Held, list[Boxed]] = {}
    for case, box in boxed:
        of_scene.setdefault(case.held, []).append((case, box))
    rows = [held.row(boxes_xyxy=[list(box) for _, box in some]) for held, some in of_scene.items()]
    return [
        (from_rle(rle), case.thing.mask)
        for row, some in zip(through(["segment"], rows), of_scene.values(), strict=True)
        for rle, (case, _) in zip(row["object_masks_rle"], some, strict=True)
    ]
