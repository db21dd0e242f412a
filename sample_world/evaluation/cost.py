"""What the embedded models weigh, and how long a picture takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np

from pipelines.models import Painting
from pipelines.pixels.crops import context_region, cut, cut_mask
from pipelines.recipe import Recipe
from pipelines.stages.paint import painter_of
from sample_world.evaluation.cases import Case
from sample_world.evaluation.figures import Figure, average

CALLS: Final = 5


def measure_size(folder: Path) -> dict[str, Figure]:
    """All weights that lie in a folder."""
    megabytes = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6
    return {"size of all weights on disk, MB": Figure(megabytes, megabytes, megabytes, 1)}


def measure_time(recipe: Recipe, case: Case, calls: int = CALLS) -> dict[str, Figure]:
    """Full calls of the painter in this process, with the threads of the settings, after one that warms it up."""
    painter, side = painter_of(recipe.paint), recipe.mask.crop_px
    region = context_region(case.thing.mask, side)
    crop, mask = cut(case.held.scene.rgb, region, side), cut_mask(case.thing.mask, region, side)
    prompt = recipe.prompts.paint[0].format(category=case.thing.category, colour="red", pattern="striped")
    variants = [Painting(crop, mask, prompt, recipe.prompts.negative, seed) for seed in range(recipe.paint.call_size)]
    painter(variants)
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        painter(variants)
        seconds.append((time.perf_counter() - started) / len(variants))
    return {"one variant at default steps, one process, s": average(seconds, np.median)}
