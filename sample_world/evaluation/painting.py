"""What is asked of the painter, and what comes of it after mask, paint and compose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipelines.pixels.crops import Region, cut_mask, from_raw
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask, from_rle, to_rle
from pipelines.rows import Row
from sample_world.drawing.scenes import SceneObject
from sample_world.evaluation.cases import Held
from sample_world.evaluation.through import Through


@dataclass(frozen=True, eq=False)
class Order:
    """A repaint of a held-out scene.

    `words` are what it should then show, by question (colour, pattern, category, background). The mask (H, W) of
    `thing`, a product of the scene, is tidied and grown as the recipe says; a given mask is taken as it is instead.
    """

    held: Held
    words: Mapping[str, str]
    prompt: str
    negative_prompt: str
    seed: int
    thing: SceneObject | None
    given_mask: Mask | None = None

    def row(self) -> Row:
        """The row as it reaches the node `mask`."""
        return {
            **self.held.row(),
            "given_mask_rle": None if self.given_mask is None else to_rle(self.given_mask),
            "boxes_xyxy": [[0, 0, 1, 1]],  # where the mask came from; read only where one of several is chosen
            "box_scores": [1.0],
            "object_masks_rle": [] if self.thing is None else [to_rle(self.thing.mask)],
            "paint_prompts": [self.prompt],
            "negative_prompt": self.negative_prompt,
            "seed_basis": None,
            "given_seeds": [self.seed],
            "source_sha256": "",
        }


@dataclass(frozen=True, eq=False)
class Painted:
    """An order and the row that came of it: one region, one variant."""

    order: Order
    row: Row

    @property
    def region(self) -> Region:
        """Where in the picture the crops are from; pixels, left top right bottom."""
        left, top, right, bottom = self.row["regions_xyxy"][0]
        return left, top, right, bottom

    @cached_property
    def source(self) -> Rgb:
        """The crop before."""
        return from_raw(self.row["region_rgb"][0])

    @cached_property
    def finished(self) -> Rgb:
        """The crop after: fitted in colour, and pasted within the allow mask."""
        return from_raw(self.row["finished_crops"][0])

    @cached_property
    def allow(self) -> Mask:
        """Where the picture may have changed, at its own size."""
        return from_rle(self.row["allow_mask_rle"])

    @cached_property
    def allow_crop(self) -> Mask:
        """Where the crop may have changed."""
        return cut_mask(self.allow, self.region, len(self.source))

    @property
    def thing(self) -> SceneObject:
        """The product that was there, or whose surroundings were.

        Raises:
            ValueError: the order was for bare background.
        """
        if self.order.thing is None:
            raise ValueError(f"scene {self.order.held.seed} was repainted where no product stands")
        return self.order.thing


def paint(through: Through, orders: Sequence[Order]) -> list[Painted]:
    """Send orders through mask, paint and compose.

    Raises:
        RuntimeError: the recipe's mask refuses one, as too large or empty.
    """
    rows = through(["mask", "paint", "compose"], [order.row() for order in orders])
    for order, row in zip(orders, rows, strict=True):
        if "reason" in row:
            raise RuntimeError(f"the order {order.prompt!r} of scene {order.held.seed} was refused: {row['reason']}")
    return [Painted(order, row) for order, row in zip(orders, rows, strict=True)]
