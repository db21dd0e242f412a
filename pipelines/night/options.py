"""What a night is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines import storage
from pipelines.executors.placement import LOCAL, Placement
from pipelines.executors.worker import DEFAULT_MAX_UNEXPECTED
from pipelines.graph import Graph, build
from pipelines.recipe import Recipe


@dataclass(frozen=True)
class Night:
    """A catalogue, a recipe, where results go, and how far a run may go wrong.

    A local `output_uri` is made absolute, so that no record depends on the folder that a program runs in.

    Attributes:
        max_unexpected: a run stops when more rows break unexpectedly than this number and than
            `max_unexpected_share` of the rows to render.
        max_failed: if more than this share of the items is failed, a person is needed.
        allow_vanished: if more than this share of the newest run's items is gone from the catalogue (rounded up to
            whole items), nothing is rendered.
    """

    catalogue_uri: str
    output_uri: str
    recipe: Recipe
    placement: Placement = LOCAL
    limit: int | None = None
    allow_embedded: bool = False
    max_unexpected: int = DEFAULT_MAX_UNEXPECTED
    max_unexpected_share: float = 0.001
    max_failed: float = 0.02
    allow_vanished: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_uri", storage.absolute(self.output_uri))

    def unexpected_allowed(self, rows: int) -> int:
        """How many of so many rows to render may break unexpectedly."""
        return max(self.max_unexpected, int(self.max_unexpected_share * rows))

    def graph(self) -> Graph:
        """The recipe's graph, which stores pictures in the output."""
        return build(self.recipe, storage.Store(self.output_uri))
