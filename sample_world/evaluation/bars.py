"""What the embedded models must reach, what would be better still, and the table that sets the figures beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from sample_world.evaluation.figures import Figure


@dataclass(frozen=True)
class Bar:
    """What a figure must reach, and what would be better still; `at_most` where less is better."""

    bar: float
    stretch: float
    at_most: bool = False

    def verdict(self, value: float) -> str:
        """`missed`, `met` or `stretch met`; a figure that is not a number is `not measured`."""
        if math.isnan(value):
            return "not measured"
        if self._reaches(value, self.stretch):
            return "stretch met"
        return "met" if self._reaches(value, self.bar) else "missed"

    def _reaches(self, value: float, wanted: float) -> bool:
        return value <= wanted if self.at_most else value >= wanted


def as_table(figures: Mapping[str, Figure], bars: Mapping[str, Bar], notes: Sequence[str]) -> Table:
    """A row a figure, in the bars' order, those without a bar last; the notes below."""
    table = Table("sample world", "bar", "stretch", "figure", "95 % interval", "n", "", box=None)
    table.caption = "\n".join(notes)
    for name in in_order(figures, bars):
        figure, bar = figures[name], bars.get(name)
        sign = "" if bar is None else "<= " if bar.at_most else ">= "
        table.add_row(
            name,
            f"{sign}{bar.bar:g}" if bar else "",
            f"{sign}{bar.stretch:g}" if bar else "",
            f"{figure.value:.3g}",
            f"{figure.low:.3g} to {figure.high:.3g}",
            str(figure.n),
            bar.verdict(figure.value) if bar else "",
        )
    return table


def as_facts(figures: Mapping[str, Figure], bars: Mapping[str, Bar], notes: Sequence[str]) -> dict[str, Any]:
    """The same for JSON; null where there is no number."""
    rows = []
    for name in in_order(figures, bars):
        figure, bar = figures[name], bars.get(name)
        numbers = {key: None if math.isnan(value) else value for key, value in vars(figure).items()}
        limits = (
            {"bar": bar.bar, "stretch": bar.stretch, "at_most": bar.at_most, "verdict": bar.verdict(figure.value)}
            if bar
            else {"bar": None, "stretch": None, "at_most": None, "verdict": None}
        )
        rows.append({"what": name, **numbers, **limits})
    return {"world": "sample", "figures": rows, "notes": list(notes)}


def in_order(figures: Mapping[str, Figure], bars: Mapping[str, Bar]) -> list[str]:
    """The names of the figures: those that have a bar first, in the bars' order."""
    return [name for name in bars if name in figures] + [name for name in figures if name not in bars]
