"""Which items the page shows, chosen by row number in the pass that counts, so that only these are read whole."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.night import manifest
from pipelines.night.manifest import Published
from pipelines.report.counts import flat_variants
from pipelines.rows import FAILED, PENDING, REJECTED, Row, as_seen_by, in_step
from pipelines.scores import MEASURES, rank
from pipelines.tasks import task_of

A_REASON = 8
SHOWN = [
    *("item_key", "status", "reason", "detail", "node", "source_uri", "source_version", "find_prompt", "paint_prompts"),
    *("reference_uris", "boxes_xyxy", "box_scores", "box_labels", "allow_mask_rle", "regions_xyxy", "variant_seeds"),
    *("variant_scores", "variant_kept", "variant_reasons", "changed_outside", "crop_uris", "image_uris"),
]


@dataclass(frozen=True)
class Section:
    """A part of the page: row numbers in the order in which they are shown."""

    title: str
    about: str
    numbers: list[int]


class Few:
    """The numbers of the few rows that come first by a rank, out of any number of rows."""

    def __init__(self) -> None:
        self.first: list[tuple[Any, int]] = []

    def offer(self, ranked: Iterable[tuple[Any, int]], most: int) -> None:
        """Take in more rows, as pairs of rank and number, and keep at most so many: the smallest ranks."""
        self.first = heapq.nsmallest(most, chain(self.first, ranked))

    def numbers(self) -> list[int]:
        """Of the rows that were kept, in the order of their ranks."""
        return [number for _, number in self.first]


class Choice:
    """At most `most` items: some of every reason, the lowest and the highest scores, and others drawn by `seed`."""

    def __init__(self, seed: int, most: int) -> None:
        self.most = most
        self.rows = 0
        self.random = np.random.default_rng(seed)
        self.reasons: defaultdict[str, Few] = defaultdict(Few)
        self.lowest, self.highest, self.drawn = Few(), Few(), Few()

    def add(self, table: pa.Table) -> None:
        """Look at the next table of `counts.COLUMNS`."""
        numbers = range(self.rows, self.rows + len(table))
        self.rows += len(table)
        drawn = list(zip(self.random.random(len(table)).tolist(), numbers, strict=True))
        self.drawn.offer(drawn, self.most)
        stopped = pc.is_in(table["status"], pa.array([REJECTED, FAILED]))
        words = pc.if_else(stopped, table["reason"], None)
        variants = flat_variants(table)
        self._offer_reasons(words, np.arange(len(table)), drawn)
        self._offer_reasons(variants["reason"], variants["item"].to_numpy(), drawn)
        waiting = np.flatnonzero(pc.equal(table["status"], PENDING))
        self.reasons[PENDING].offer((drawn[item] for item in waiting), A_REASON)
        self._offer_scores(variants.filter(variants["kept"]), numbers)

    def _offer_reasons(self, words: Any, items: NDArray[np.int64], drawn: Sequence[tuple[float, int]]) -> None:
        for word in pc.unique(words.drop_null()).to_pylist():
            own = np.unique(items[np.asarray(pc.fill_null(pc.equal(words, word), False))])
            self.reasons[word].offer((drawn[item] for item in own), A_REASON)

    def _offer_scores(self, kept: pa.Table, numbers: Sequence[int]) -> None:
        """An item ranks as its best kept variant; one of whose variants nothing was measured has no rank."""
        best: dict[int, tuple[float, float]] = {}
        for variant in kept.select(["item", *(one.name for one in MEASURES)]).to_pylist():
            own = rank(variant)
            if any(variant[one.name] is not None for one in MEASURES) and all(map(math.isfinite, own)):
                best[variant["item"]] = min(own, best.get(variant["item"], own))
        self.highest.offer(((own, numbers[item]) for item, own in best.items()), self.most)
        self.lowest.offer((((-own[0], -own[1]), numbers[item]) for item, own in best.items()), self.most)

    def sections(self) -> list[Section]:
        """The page's parts; an item stands in one of them, once."""
        taken: set[int] = set()

        def take(queues: Iterable[Few], most: int) -> list[int]:
            """Row numbers, one of each queue in turn, so that none goes without."""
            lists = [few.numbers() for few in queues]
            got: set[int] = set()
            for number in (number for turn in zip_longest(*lists) for number in turn):
                if number is not None and number not in taken and len(got) < most and len(taken) < self.most:
                    got.add(number)
                    taken.add(number)
            return list(dict.fromkeys(number for numbers in lists for number in numbers if number in got))

        reasons = take(self.reasons.values(), max(len(self.reasons), self.most // 3))
        lowest = take([self.lowest], max(1, self.most // 6))
        highest = take([self.highest], max(1, self.most // 12))
        drawn = take([self.drawn], self.most)
        sections = [
            Section("Look here first", "Delivered items with the lowest scores.", lowest),
            Section("Best of the run", "Delivered items with the highest scores.", highest),
            Section("Every reason", "Some items of each reason for which an item or a variant was not kept.", reasons),
            Section("Drawn by chance", "What the rest of the run looks like.", drawn),
        ]
        return [section for section in sections if section.numbers]


def read_rows(published: Published, numbers: Sequence[int]) -> dict[int, Row]:
    """The rows of these numbers, in their order, as their last step sees them; `on_source` says that no step's task
    has moved the picture, so that masks and regions lie where they lie in the source.
    """
    recipe = published.facts["recipe"]
    steps = recipe.get("steps") or [recipe]
    on_source = not any(task_of(step["paint"].get("task")).moves_picture for step in steps)
    columns = [in_step(name, step) for step in range(1, len(steps) + 1) for name in SHOWN]
    found: dict[int, Row] = {}
    start = 0
    for table in manifest.read(published, "items", columns):
        own = [number for number in numbers if start <= number < start + len(table)]
        rows = table.take(np.array(own, np.int64) - start).to_pylist()
        found.update((number, as_seen_by(row, len(steps))) for number, row in zip(own, rows, strict=True))
        start += len(table)
    return {number: {**found[number], "on_source": on_source} for number in numbers}
