"""Say where pixels may change, what is denoised, and which crops the painter sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.models.loading import load_matting
from pipelines.pixels import masks
from pipelines.pixels.boxes import area_fraction
from pipelines.pixels.crops import context_region, cut
from pipelines.pixels.cutouts import Matting, to_png
from pipelines.pixels.images import decode, encode
from pipelines.pixels.layouts import CanvasTooLarge, Layout
from pipelines.pixels.layouts.laying import overlap
from pipelines.pixels.masks import closed, diagonal_px, drop_specks, fill_holes, from_rle, largest_parts, to_rle
from pipelines.pixels.reference_foreground import reference_cutout
from pipelines.recipe.settings import MaskSettings
from pipelines.rows import BOXES, REGIONS, RLE, SCORES, SIZE_WH, ItemError, Row, Update, pictures
from pipelines.tasks import TASKS, Edit, EditError, Given


class Mask:
    """From object masks, or the given mask, to what the task paints on and the painter's regions.

    `allow_mask_rle` says where the delivered picture may differ from `base_bytes` (null: the source). `canvas_bytes` is
    what crops are pasted into (null: the base). The inpaint mask (`repaint_mask_rle`) may reach further out than the
    allow mask. Regions are squares (R, 4) in pixels of the canvas that may reach beyond it; `region_rgb` is each of
    them as raw uint8 (crop_px, crop_px, 3), and `region_start` the same of the picture that painting starts from (null:
    the canvas itself). `overlay_bytes`, an RGBA file, is laid over the finished picture: the product before its new
    background. A task that paints nothing has no regions. An empty mask, or one over nearly everything, is a rejection.
    """

    pixels_version = 3
    reads = {
        "image_bytes": pa.large_binary(),
        "size_wh": SIZE_WH,
        "given_mask_rle": RLE,
        "reference_bytes": pa.list_(pa.large_binary()),
        "scene_bytes": pa.large_binary(),
        "front_mask_rle": RLE,
        "paint_colour": pa.string(),
    }
    may_read = {
        "boxes_xyxy": BOXES,
        "box_scores": SCORES,
        "object_masks_rle": pa.list_(RLE),
        "finished_bytes": pa.large_binary(),
        "changed_mask_rle": RLE,
    }
    adds = {
        "base_bytes": pa.large_binary(),
        "canvas_bytes": pa.large_binary(),
        "canvas_size_wh": SIZE_WH,
        "overlay_bytes": pa.large_binary(),
        "allow_mask_rle": RLE,
        "changed_mask_rle": RLE,
        "repaint_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "region_rgb": pa.list_(pa.large_binary()),
        "region_start": pa.list_(pa.large_binary()),
    }

    def __init__(self, settings: MaskSettings, matting: Matting | None = None) -> None:
        self.settings = settings
        self.task = TASKS[settings.layout.task]
        self.matting = matting or load_matting()

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Mask each row by itself."""
        return [self._mask(row) for row in rows]

    def _mask(self, row: Row) -> Update | ItemError:
        products = self._products(row) if self.task.finds_product else []
        if self.task.finds_product and not products:
            return {"reason": "empty_mask"}
        if products and (found := np.logical_or.reduce(products)).mean() > self.settings.max_area:
            return {"reason": "mask_covers_everything", "allow_mask_rle": to_rle(found)}
        given = self._given(row, products)
        try:
            edit = self.task.edit(self.settings.layout, self.settings, given)
        except EditError as error:
            return ItemError(error.reason, str(error))
        except CanvasTooLarge as error:
            return ItemError("canvas_too_large", str(error))
        return self._update(row, given, edit)

    def _update(self, row: Row, given: Given, edit: Edit) -> Update:
        layout, start, side_px = edit.layout, edit.start, self.settings.crop_px
        regions = [context_region(mask, side_px) for mask in edit.inpaint_masks]
        return {
            "base_bytes": _made_base(row, given, edit) or row.get("finished_bytes"),
            "canvas_bytes": None if layout.canvas is layout.base else encode(layout.canvas, "png"),
            "canvas_size_wh": [layout.base.shape[1], layout.base.shape[0]],
            "overlay_bytes": None if edit.overlay is None else to_png(edit.overlay),
            "allow_mask_rle": to_rle(layout.allow),
            "changed_mask_rle": to_rle(layout.allow | _changed_before(row, layout)),
            "repaint_mask_rle": to_rle(np.logical_or.reduce([layout.inpaint_mask, *edit.inpaint_masks])),
            "regions_xyxy": [list(region) for region in regions],
            "region_rgb": [cut(layout.canvas, region, side_px).tobytes() for region in regions],
            "region_start": None if start is None else [cut(start, region, side_px).tobytes() for region in regions],
        }

    def _given(self, row: Row, products: Sequence[masks.Mask]) -> Given:
        own = {name: row[name] for name in self.task.reads}
        scene, front, references = own.get("scene_bytes"), own.get("front_mask_rle"), own.get("reference_bytes")
        return Given(
            source=decode(pictures(row).current).rgb,
            matting=self.matting,
            products=products,
            exact=row["given_mask_rle"] is not None,
            colour=own.get("paint_colour"),
            scene=decode(scene).rgb if scene else None,
            front=from_rle(front) if front else None,
            reference=reference_cutout(references[0]) if references else None,
        )

    # --- which pixels are the product's

    def _products(self, row: Row) -> list[masks.Mask]:
        """The masks that the task is about, none of them empty: of products, or what a given mask says."""
        if row["given_mask_rle"] is not None:
            white = from_rle(row["given_mask_rle"])
            # White is what may change: where the task keeps the product, that is what lies round it.
            products = [white if self.settings.invert == self.task.keeps_product else ~white]
        else:
            found = [from_rle(row["object_masks_rle"][index]) for index in self._chosen(row)]
            products = [self._tidy(mask) for mask in found if mask.any()]
            if self.settings.instances == "all" and products:
                products = [np.logical_or.reduce(products)]
            products = [~mask for mask in products] if self.settings.invert else products
        return [mask for mask in products if mask.any()]

    def _chosen(self, row: Row) -> list[int]:
        if not row.get("boxes_xyxy"):  # points were given, and all of them name one thing
            return [0]
        if self.settings.instances in ("all", "per_instance"):
            return list(range(len(row["boxes_xyxy"])))
        if self.settings.instances == "largest":
            boxes = np.asarray(row["boxes_xyxy"], np.float32)
            return [int(np.argmax(area_fraction(boxes, tuple(row["size_wh"]))))]
        return [int(np.argmax(row["box_scores"]))]

    def _tidy(self, mask: masks.Mask) -> masks.Mask:
        shut = closed(mask, self._px(self.settings.close, mask)) if self.settings.close else mask
        whole = drop_specks(fill_holes(shut, self.settings.max_hole), self.settings.min_speck)
        return largest_parts(whole, self.settings.keep_parts) if self.settings.keep_parts else whole

    def _px(self, share: float, mask: masks.Mask) -> int:
        return round(share * diagonal_px(mask))


def _changed_before(row: Row, layout: Layout) -> masks.Mask:
    """What earlier steps may have changed, where it lies now."""
    if row.get("changed_mask_rle") is None or layout.at_xy is None:
        return np.zeros_like(layout.allow)
    before, moved = from_rle(row["changed_mask_rle"]), np.zeros_like(layout.allow)
    on, of = overlap(moved.shape, before.shape, *layout.at_xy)
    moved[on] = before[of]
    return moved


def _made_base(row: Row, given: Given, edit: Edit) -> bytes | None:
    """The base that the task made, as a file with the colour profile of the picture it was made from; or None."""
    if edit.layout.base is given.source:
        return None
    made_from = decode(pictures(row).current if given.scene is None else row["scene_bytes"])
    return encode(edit.layout.base, "png", alpha=edit.alpha, icc_profile=made_from.icc_profile)
