"""What happens to an item, one class a file; here is what the classes have in common.

A stage is a plain class: no base class, no registry. `Stage` and `StageClass` say, for the type checker, what the graph
and the executors ask of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from pipelines.rows import ItemError, Row, Update


class Stage(Protocol):
    """One step of the way, its network loaded."""

    def __call__(self, rows: Sequence[Row]) -> Sequence[Update | ItemError]:
        """As many answers as rows, in the same order; the rows are not changed."""


class StageClass(Protocol):
    """The class of a stage; called with its settings, it loads the network and gives the stage.

    `reads` are the columns, with their Arrow types, that have to be there, and `may_read` those that the stage takes if
    they are; `adds` are the columns that its answers may have. `pixels_version` is raised by hand when the answers
    change and no setting or weight did: it is in the node's key, so that what was rendered is made anew.
    """

    @property
    def pixels_version(self) -> int:
        """1 or more."""

    @property
    def reads(self) -> Mapping[str, pa.DataType]:
        """Columns that have to be there."""

    @property
    def may_read(self) -> Mapping[str, pa.DataType]:
        """Columns that are read where they are there."""

    @property
    def adds(self) -> Mapping[str, pa.DataType]:
        """Columns that answers may have."""

    def __call__(self, *arguments: Any, **given: Any) -> Stage:
        """Build the stage of its settings; `given` are constructor arguments that are no settings."""
