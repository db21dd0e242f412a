"""Is the product found without a detector, and is its edge its own? `packshot evaluate masks`."""

from __future__ import annotations

import logging
from typing import Final

from pipelines import recipe as recipes
from pipelines.models.loading import load_matting
from pipelines.recipe.filling import MODEL_SETS
from pipelines.recipe.settings import FindSettings
from sample_world.evaluation import finding, matting
from sample_world.evaluation.bars import Bar
from sample_world.evaluation.cases import held_out_scenes
from sample_world.evaluation.figures import Figure
from sample_world.evaluation.through import Through

SCENES: Final = 300
PROCESSES: Final = 2
BARS: Final[dict[str, Bar]] = {**finding.BARS, **matting.BARS}
_log = logging.getLogger(__name__)


def evaluate(scenes: int = SCENES) -> dict[str, Figure]:
    """The figures of finding by the embedded models' own settings, and of the closed-form cut-outs.

    Args:
        scenes: how many held-out scenes.
    """
    held = held_out_scenes(scenes)
    figures = finding.measure_finding(FindSettings(**MODEL_SETS["embedded"]["find"]), held, PROCESSES)
    _log.info("finding is measured")
    with Through(recipes.load("replace"), PROCESSES) as through:
        return figures | matting.measure_matting(load_matting(), held, through)
