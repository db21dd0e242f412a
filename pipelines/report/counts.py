"""What a run comes to, over every row: one streaming pass, a table at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.night.manifest import Published
from pipelines.rows import FAILED, OK, PENDING, REASONS, REJECTED, Reason
from pipelines.scores import MEASURES, Measure

COLUMNS = ["status", "reason", "node", "variant_scores", "variant_kept", "variant_reasons", "changed_outside"]


def reason_words(word: str) -> Reason:
    """The sentence and next step of a reason; one that only another version knows says so."""
    unknown = Reason("permanent", f"This version has no sentence for the reason `{word}`.", "Read the item's detail.")
    return REASONS.get(word, unknown)


def flat_variants(table: pa.Table) -> pa.Table:
    """The judged variants of a table's items, a row each: `item` (its place in the table), `kept`, `reason`, scores.

    Only of items that are ok or rejected: a pending item's variants are those of an earlier night.
    """
    judged = pc.and_(pc.is_in(table["status"], pa.array([OK, REJECTED])), pc.is_valid(table["variant_kept"]))
    own = table.filter(judged)
    scores = pc.list_flatten(own["variant_scores"])
    return pa.table(
        {
            "item": np.repeat(np.flatnonzero(judged), np.asarray(pc.list_value_length(own["variant_kept"]))),
            "kept": pc.list_flatten(own["variant_kept"]),
            "reason": pc.list_flatten(own["variant_reasons"]),
            **{one.name: _scores(scores, one.name) for one in MEASURES},
        }
    )


def _scores(scores: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """One score of every variant; null in runs of before it was measured."""
    known = name in {scores.type.field(number).name for number in range(scores.type.num_fields)}
    return pc.struct_field(scores, name) if known else pa.nulls(len(scores), pa.float32())


class Spread:
    """The lowest, mean and highest of many values; NaN is none."""

    def __init__(self) -> None:
        self.count, self.total, self.lowest, self.highest = 0, 0.0, np.inf, -np.inf

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Take in some more."""
        values = values[~np.isnan(values)].astype(np.float64)
        self.count += values.size
        self.total += values.sum()
        self.lowest, self.highest = values.min(initial=self.lowest), values.max(initial=self.highest)

    def summary(self) -> dict[str, float] | None:
        """The figures; None where nothing was measured."""
        if not self.count:
            return None
        figures = {"lowest": self.lowest, "mean": self.total / self.count, "highest": self.highest}
        return {"count": self.count, **{name: round(float(value), 4) for name, value in figures.items()}}


class Counts:
    """Sums over the rows that were added."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str | None, str | None]] = Counter()
        self.variants: Counter[str] = Counter(painted=0, kept=0)
        self.refusals: Counter[str] = Counter()
        self.changes: Counter[str] = Counter(pictures=0, pictures_changed=0, pixels=0)
        self.kept = {one.name: Spread() for one in MEASURES}
        self.not_kept = {one.name: Spread() for one in MEASURES}

    def add(self, table: pa.Table) -> None:
        """Count a table of `COLUMNS`."""
        self.outcomes.update(zip(*(table[name].to_pylist() for name in ("status", "reason", "node")), strict=True))
        variants = flat_variants(table)
        kept = variants["kept"].to_numpy().astype(np.bool_)
        self.variants.update(painted=len(kept), kept=int(kept.sum()))
        self.refusals.update(variants["reason"].drop_null().to_pylist())
        for one in MEASURES:
            values = variants[one.name].to_numpy()
            self.kept[one.name].add(values[kept])
            self.not_kept[one.name].add(values[~kept])
        delivered = table.filter(pc.equal(table["status"], OK))
        changes = pc.list_flatten(delivered["changed_outside"]).drop_null().to_numpy()
        self.changes.update(pictures=changes.size, pictures_changed=int((changes > 0).sum()), pixels=int(changes.sum()))

    def summary(self, published: Published) -> dict[str, Any]:
        """The counts beside what `run.json` says of the run, as plain data for JSON."""
        facts, recipe = published.facts, published.facts["recipe"]
        statuses = dict.fromkeys((OK, REJECTED, FAILED, PENDING), 0)
        for (status, _, _), items in self.outcomes.items():
            statuses[status] += items
        rendered = facts["counts"]["rendered"]
        return {
            "run_id": published.run_id,
            "run_uri": published.run_uri,
            **{name: facts[name] for name in ("finished_at", "catalogue", "sample_world_only", "notes")},
            "recipe": recipe["name"],
            "exact": recipe["deliver"]["exact"],
            "models": facts["checkpoints"],
            "duration_s": round(sum(facts["seconds"].values()), 3),
            "planned": facts["counts"]["planned"],
            "carried_over": facts["counts"]["keep"] - statuses[PENDING],  # the plan keeps what waits
            "counts": statuses,
            "adds_up": facts["counts"]["planned"] == sum(statuses.values()),
            "reasons": [
                {"status": status, "node": node, "items": items, **_told(reason)}
                for (status, reason, node), items in self.outcomes.most_common()
                if status in (REJECTED, FAILED)
            ],
            "variants": {
                **self.variants,
                "reasons": [
                    {"variants": variants, **_told(reason)} for reason, variants in self.refusals.most_common()
                ],
            },
            "scores": {
                one.name: {
                    "label": one.label,
                    "asked": _asked(one, recipe["judge"]),
                    "kept": self.kept[one.name].summary(),
                    "not_kept": self.not_kept[one.name].summary(),
                }
                for one in MEASURES
            },
            "stages": [
                {"node": node, "seconds": round(seconds, 3), "seconds_an_item": round(seconds / max(1, rendered), 4)}
                for node, seconds in sorted(facts["node_seconds"].items(), key=lambda pair: -pair[1])
            ],
            "changed_outside": dict(self.changes),
        }


def _asked(one: Measure, judge: Mapping[str, Any]) -> str | None:
    """What the run's judge asked of a score, as `at least 0.2`; None with `keep: all`, and in runs older than it."""
    threshold = judge.get(one.setting)
    return None if threshold is None else f"{one.asked} {threshold}"


def _told(word: str | None) -> dict[str, str]:
    reason = reason_words(word or "")
    return {"reason": word or "", "kind": reason.kind, "sentence": reason.sentence, "next_step": reason.next_step}
