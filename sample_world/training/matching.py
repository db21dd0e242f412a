"""The detector's criterion: match predictions to products, then focal, L1 and generalised IoU losses.

Source: Zhang et al. 2022, DINO, arXiv:2203.03605; Liu et al. 2023, Grounding DINO, arXiv:2303.05499.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss

CLASS_WEIGHT: Final = 2.0
BOX_WEIGHT: Final = 5.0
GIOU_WEIGHT: Final = 2.0
FOCAL_ALPHA: Final = 0.25
FOCAL_GAMMA: Final = 2.0


@dataclass(frozen=True)
class Targets:
    """The products to find in a picture: which text tokens name them (N, T); their boxes (N, 4), centre and size."""

    tokens: Tensor
    boxes_cxcywh: Tensor


def set_loss(
    logits: Tensor, boxes_cxcywh: Tensor, targets: Sequence[Targets], text_mask: Tensor, times: int = 1
) -> Tensor:
    """The loss of one layer's predictions, divided by the number of matches.

    Args:
        logits: (B, Q, T), -inf where there is no token.
        boxes_cxcywh: (B, Q, 4), fractions.
        targets: one a picture; may be empty.
        text_mask: (B, T), True where there is a token.
        times: how many predictions each product is matched to.
    """
    logits = logits.float().masked_fill(~text_mask[:, None], -20.0)
    wanted = torch.zeros_like(logits)
    distance = logits.new_zeros(())
    overlap = logits.new_zeros(())
    count = max(1, times * sum(len(one.boxes_cxcywh) for one in targets))
    for row, one in enumerate(targets):
        if not len(one.boxes_cxcywh):
            continue
        found, meant = _match(logits[row].detach(), boxes_cxcywh[row].detach(), one, times)
        wanted[row, found] = one.tokens[meant]
        distance = distance + (boxes_cxcywh[row, found] - one.boxes_cxcywh[meant]).abs().sum()
        pairs = _generalized_iou(boxes_cxcywh[row, found], one.boxes_cxcywh[meant])
        overlap = overlap + (1 - pairs.diag()).sum()
    focal: Tensor = (sigmoid_focal_loss(logits, wanted, FOCAL_ALPHA, FOCAL_GAMMA) * text_mask[:, None]).sum()
    return (CLASS_WEIGHT * focal + BOX_WEIGHT * distance + GIOU_WEIGHT * overlap) / count


def _match(logits: Tensor, boxes: Tensor, targets: Targets, times: int) -> tuple[Tensor, Tensor]:
    """The cheapest assignment: indices of predictions and of the targets that they are matched to."""
    probability = logits.sigmoid()
    fires = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + 1e-8).log()
    silent = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + 1e-8).log()
    naming = (fires - silent) @ (targets.tokens / targets.tokens.sum(1, keepdim=True)).T
    distance = torch.cdist(boxes, targets.boxes_cxcywh, p=1)
    cost = CLASS_WEIGHT * naming + BOX_WEIGHT * distance - GIOU_WEIGHT * _generalized_iou(boxes, targets.boxes_cxcywh)
    found, meant = linear_sum_assignment(cost.repeat(1, times).cpu().numpy())
    return torch.as_tensor(found), torch.as_tensor(meant) % len(targets.boxes_cxcywh)


def _generalized_iou(first_cxcywh: Tensor, second_cxcywh: Tensor) -> Tensor:
    """(N, 4) and (M, 4), centre and size -> (N, M)."""
    first, second = (box_convert(boxes, "cxcywh", "xyxy") for boxes in (first_cxcywh, second_cxcywh))
    overlap: Tensor = generalized_box_iou(first, second)
    return overlap
