"""Repaint each region, once a variant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pyarrow as pa

from pipelines.models import Painter, Painting, Sampling
from pipelines.models.loading import load_painter, make_call
from pipelines.pixels.crops import cut_mask, from_raw
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import depth, from_rle
from pipelines.recipe.settings import PaintSettings
from pipelines.rows import CROPS, REGIONS, RLE, STRINGS, ItemError, Row, Update
from pipelines.stages.seeds import region_seed, seeds_for
from pipelines.tasks import TASKS


class Paint:
    """Repaint regions by latent diffusion inpainting (Rombach et al. 2022, arXiv:2112.10752, section 4.5).

    Adds V seeds and V*R crops, raw uint8 (S, S, 3), variant-major. The crop is the model's own: pasting comes later.
    A variant's noise depends on its seed alone (docs/design.md, Chance), never on batch mates: all rows' (variant,
    region) pairs are packed into calls of one shape. With `soft_denoise_px` a region's mask is repainted less and less
    towards its edge. A row with a crop of which the painter gave no numbers has failed.
    """

    pixels_version = 1
    reads = {
        "paint_prompts": STRINGS,
        "negative_prompt": pa.string(),
        "seed_basis": pa.string(),
        "given_seeds": pa.list_(pa.int64()),
        "source_sha256": pa.string(),
        "repaint_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "region_rgb": pa.list_(pa.large_binary()),
        "region_start": pa.list_(pa.large_binary()),
    }
    may_read: ClassVar[dict[str, pa.DataType]] = {}
    adds = {"variant_seeds": pa.list_(pa.int64()), "variant_crops": CROPS}

    def __init__(self, settings: PaintSettings, painter: Painter | None = None) -> None:
        self.settings = settings
        self.painter = painter or (painter_of(settings) if TASKS[settings.task].paints else _nothing)

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Paint every row's variants and regions in one go."""
        seeds = [self._seeds(row) for row in rows]
        paintings = [list(self._paintings(row, row_seeds)) for row, row_seeds in zip(rows, seeds, strict=True)]
        crops = iter(self.painter([painting for of_row in paintings for painting in of_row]))
        return [
            _update(row_seeds, [next(crops) for _ in of_row])
            for row_seeds, of_row in zip(seeds, paintings, strict=True)
        ]

    def _seeds(self, row: Row) -> list[int]:
        if row["given_seeds"]:
            return list(row["given_seeds"])
        basis = row["seed_basis"] or row["source_sha256"]
        return seeds_for(basis, self.settings.seed, len(row["paint_prompts"]))

    def _paintings(self, row: Row, seeds: list[int]) -> Iterator[Painting]:
        repaint = from_rle(row["repaint_mask_rle"])
        starts = row["region_start"] or [None] * len(row["region_rgb"])
        band_px = self.settings.soft_denoise_px
        regions = []
        for raw, region, start in zip(row["region_rgb"], row["regions_xyxy"], starts, strict=True):
            rgb = from_raw(raw)
            mask = cut_mask(repaint, tuple(region), len(rgb))
            softness = depth(mask, band_px) if band_px else None
            regions.append((rgb, mask, None if start is None else from_raw(start), softness))
        for prompt, seed in zip(row["paint_prompts"], seeds, strict=True):
            for index, (rgb, mask, start, softness) in enumerate(regions):
                yield Painting(rgb, mask, prompt, row["negative_prompt"], region_seed(seed, index), start, softness)


def painter_of(settings: PaintSettings) -> Painter:
    """The painter of these settings, with its LoRAs, on networks that are loaded once a process."""
    return load_painter(
        make_call(settings.role, settings.checkpoint, settings.call_size, settings.threads),
        Sampling(
            sampler=settings.sampler,
            spacing=settings.spacing,
            steps=settings.steps,
            guidance=settings.guidance,
            strength=settings.strength,
            clip_skip=settings.clip_skip,
        ),
        tuple((one.checkpoint, one.weight) for one in settings.added_loras()),
    )


def _update(seeds: list[int], crops: Sequence[Rgb | None]) -> Update | ItemError:
    raw = [crop.tobytes() for crop in crops if crop is not None]
    if len(raw) < len(crops):
        return ItemError("no_numbers", f"the painter gave NaN in {len(crops) - len(raw)} of {len(crops)} crops")
    return {"variant_seeds": seeds, "variant_crops": raw}


def _nothing(paintings: Sequence[Painting]) -> list[Rgb]:
    """The painter of a task that paints nothing."""
    assert not paintings
    return []
