"""Measure the embedded models on scenes that no training has seen: `packshot evaluate embedded`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines import recipe as recipes
from pipelines.models.checkpoints import EMBEDDED
from pipelines.recipe import Recipe
from sample_world.evaluation.bars import Bar
from sample_world.evaluation.cases import held_out_scenes, products, shuffled
from sample_world.evaluation.cost import CALLS, measure_size, measure_time
from sample_world.evaluation.detection import measure_detection
from sample_world.evaluation.figures import Figure
from sample_world.evaluation.likeness import measure_likeness
from sample_world.evaluation.reconstruction import measure_reconstruction
from sample_world.evaluation.repaints import measure_repaints
from sample_world.evaluation.segmentation import measure_segmentation
from sample_world.evaluation.sheet import contact_sheet
from sample_world.evaluation.through import Through

BARS: Final = {
    "named product found, IoU >= 0.5": Bar(0.95, 0.99),
    "prompts for absent categories that return a box": Bar(0.05, 0.01, at_most=True),
    "attribute prompts pick the right one": Bar(0.85, 0.95),
    "relational prompts pick the right one": Bar(0.80, 0.90),
    "mask IoU from the detected box": Bar(0.90, 0.95),
    "boundary IoU from the detected box": Bar(0.75, 0.85),
    "right caption among 40": Bar(0.95, 0.99),
    "same product against look-alike, AUC": Bar(0.95, 0.99),
    "autoencoder: PSNR, dB": Bar(28, 31),
    "autoencoder: colour error of large flat areas, Delta E 2000, 95th percentile": Bar(5, 3, at_most=True),
    "repaint: asked colour seen": Bar(0.90, 0.95),
    "repaint: asked pattern seen": Bar(0.75, 0.90),
    "repaint: asked category seen": Bar(0.80, 0.90),
    "negative prompt `striped`: share that stays": Bar(0.5, 0.2, at_most=True),
    "background task: as asked, product untouched": Bar(0.80, 0.95),
    "size of all weights on disk, MB": Bar(40, 24, at_most=True),
    "one variant at default steps, one process, s": Bar(1.0, 0.4, at_most=True),
}
SCENES: Final = 500
SCENES_A_PAINTING: Final = 5
MIN_SCENES_FOR_PROCESSES: Final = 20  # below, starting them takes longer than they save
PROCESSES: Final = 2
ROLES: Final = {"detect": "detector", "segment": "segmenter", "paint": "painter", "score": "encoder"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelsEvaluation:
    """Figures by name, and what was left out and why."""

    figures: dict[str, Figure]
    notes: tuple[str, ...]


def evaluate(folder: Path | None = None, scenes: int = SCENES, sheet: Path | None = None) -> ModelsEvaluation:
    """Measure every model by the ready recipe `replace`, through the stages that a render goes through.

    Args:
        folder: holds `detector`, `segmenter`, `painter`, `encoder` and `judge`; None for those that ship along. What
            is not there is left out, with a note.
        scenes: how many held-out scenes; a fifth as many pictures are painted for each figure of painting.
        sheet: where to write the contact sheet.
    """
    root = folder or EMBEDDED
    recipe, there = recipe_of(folder), {role for role in (*ROLES.values(), "judge") if (root / role).is_dir()}
    held, figures = held_out_scenes(scenes), measure_size(root)
    count = -(-scenes // SCENES_A_PAINTING)
    cases = shuffled(products(held))[:count]
    notes: list[str] = []
    _log.info("%d held-out scenes are drawn", len(held))
    with Through(recipe, PROCESSES if scenes >= MIN_SCENES_FOR_PROCESSES else 0) as through:
        if "detector" in there:
            found, answers = measure_detection(through, recipe, held)
            figures |= found
            if "segmenter" in there:
                figures |= measure_segmentation(through, held, answers)
        _log.info("detector and segmenter are measured")
        if "painter" in there:
            painted, anew = measure_repaints(through, recipe, held, count, root / "judge" if "judge" in there else None)
            figures |= painted
            if sheet is not None:
                contact_sheet(anew, sheet)
        _log.info("the painter is measured")
    if "encoder" in there:
        figures |= measure_likeness(recipe, held)
    if "painter" in there:
        figures |= measure_reconstruction(recipe, cases)
        figures |= measure_time(recipe, cases[0], min(CALLS, count))  # last: by now nothing runs beside it
        # A machine with other work shows its own slowness, not the model's.
        notes.append(f"the time was taken at a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    missing = sorted({*ROLES.values(), "judge"} - there)
    notes += [f"left out what needs `{role}`, which is not in {root}" for role in missing]
    return ModelsEvaluation(figures, tuple(notes))


def recipe_of(folder: Path | None) -> Recipe:
    """The ready recipe `replace`, with the models of a folder in the place of those that ship along."""
    ready = recipes.load("replace")
    if folder is None:
        return ready
    given = ready.model_dump(mode="json", exclude_unset=True)
    for section, role in ROLES.items():
        given[section] = {**given[section], "checkpoint": {"uri": str(folder.resolve() / role)}}
    return recipes.parse(given)
