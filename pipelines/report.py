"""The page that an operator reads in the morning: one HTML file, with everything in it, from a published run.

A first pass over the items reads a few columns and counts every row; it also chooses, by row number, which items to
show. A second pass reads just these. Pictures are fetched in the page's order until its bytes are used up; one that
cannot be fetched leaves a labelled gap, since a page with gaps is worth more in the morning than none.
"""

from __future__ import annotations

import base64
import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Semaphore
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines import manifest, storage
from pipelines.errors import ImageError, InfrastructureError, PackshotError
from pipelines.manifest import Published
from pipelines.pixels.crops import cut
from pipelines.pixels.images import decode, encode, thumbnail
from pipelines.pixels.masks import from_rle
from pipelines.rows import FAILED, OK, PENDING, REASONS, REJECTED, Reason, Row

MAX_BYTES = 24_000_000
NOTICE_BYTES = 1_000
MAX_VARIANTS = 16
MAX_REGIONS = 4
MAX_REFERENCES = 3
MAX_BOXES = 8
MAX_TEXT = 400
A_REASON = 8
FETCH_THREADS = 8
DECODE_THREADS = 2
REFUSALS = 5
STATUSES = (OK, REJECTED, FAILED, PENDING)
STATUS_WORDS = {
    OK: "delivered",
    REJECTED: "rejected",
    FAILED: "failed",
    PENDING: "pending",
}
OUTLINE_RGB = (214, 0, 110)
TINT_ALPHA, OUTLINE_ALPHA = 70, 255
BINS = 200

JUDGED = ["variant_scores", "variant_kept", "variant_reasons"]
COUNTED = ["status", "reason", "node", "seconds", *JUDGED, "changed_outside"]
SHOWN = [
    *("item_key", "status", "reason", "detail", "node", "attempts", "source_uri", "source_version", "size_wh"),
    *("find_prompt", "paint_prompts", "reference_uris", "boxes_xyxy", "box_scores", "box_labels", "allow_mask_rle"),
    *("regions_xyxy", "variant_seeds", "variant_scores", "variant_kept", "variant_reasons", "changed_outside"),
    *("crop_uris", "image_uris"),
]

Rgb = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Measure:
    """A score as people read it: its words, range, and the recipe's threshold for it."""

    label: str
    about: str
    low: float
    high: float
    setting: str
    at_least: bool
    reason: str


MEASURES = {
    "text_similarity": Measure(
        "prompt likeness", "1 at best", -1, 1, "min_text_similarity", True, "low_text_similarity"
    ),
    "reference_similarity": Measure(
        "reference likeness", "1 at best", -1, 1, "min_reference_similarity", True, "low_reference_similarity"
    ),
    "ring_error": Measure(
        "edge mismatch",
        "difference in colour round the mask, 0 at best",
        0,
        255,
        "max_ring_error",
        False,
        "high_ring_error",
    ),
}


def write_report(
    published: Published, html_path: Path, seed: int = 0, max_items: int = 300, max_bytes: int = MAX_BYTES
) -> Path:
    """Write the page of a published run, at most `max_bytes` whatever the run's size, and answer where it is.

    Counts are over every row. Shown are at most `max_items` items: every reason, the best and the worst of what was
    kept, and others drawn by `seed`.

    Raises:
        InfrastructureError: the manifest itself cannot be read, or is not what `run.json` says.
    """
    counts = _count(published, seed, max_items)
    sections = _choose(counts, max_items)
    rows = _rows(published, sorted(number for section in sections for number in section.numbers))
    facts, recipe = _summary(published, counts), published.facts.get("recipe") or {}
    bare = [[_shown(rows[number], number, recipe) for number in section.numbers] for section in sections]
    bytes_left = max_bytes - NOTICE_BYTES - len(_page(facts, sections, bare).encode())
    shown, without = _with_pictures(bare, rows, bytes_left)
    html_path.parent.mkdir(parents=True, exist_ok=True)
    html_path.write_text(_page(facts, sections, shown, without), encoding="utf-8")
    return html_path


def summary(published: Published) -> dict[str, Any]:
    """The report's counts, over every row, as plain data for JSON; quantiles are within 1/200 of a score's range."""
    return _summary(published, _count(published, 0, 0))


# --- counting every row


class _Few:
    """The numbers of the few rows that come first by a rank, out of any number of rows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.numbers: Numbers = np.empty(0, np.int64)
        self.ranks: NDArray[np.float64] = np.empty(0)

    def add(self, numbers: Numbers, ranks: NDArray[np.float64]) -> None:
        numbers, ranks = np.concatenate([self.numbers, numbers]), np.concatenate([self.ranks, ranks])
        first = np.lexsort((numbers, ranks))[: self.size]
        self.numbers, self.ranks = numbers[first], ranks[first]


class _Spread:
    """How one score is spread over the variants: a histogram of fixed bins for kept ones and one for the others."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.bins = np.zeros((2, BINS), np.int64)
        self.sums, self.lows, self.highs = np.zeros(2), np.full(2, np.inf), np.full(2, -np.inf)

    def add(self, values: NDArray[np.float64], kept: NDArray[np.bool_]) -> None:
        for which in (0, 1):
            own = values[(kept == bool(which)) & ~np.isnan(values)]
            if own.size:
                share = (own - self.measure.low) / (self.measure.high - self.measure.low)
                self.bins[which] += np.bincount(np.clip(share * BINS, 0, BINS - 1).astype(np.int64), minlength=BINS)
                self.sums[which] += own.sum()
                self.lows[which] = min(self.lows[which], own.min())
                self.highs[which] = max(self.highs[which], own.max())

    def told(self, kept_only: bool) -> dict[str, float] | None:
        """Count, mean, smallest, quantiles and largest; None where nothing was measured."""
        which = slice(1, 2) if kept_only else slice(0, 2)
        bins = self.bins[which].sum(0)
        count = int(bins.sum())
        if not count:
            return None
        at = np.searchsorted(np.cumsum(bins), np.array([0.1, 0.5, 0.9]) * count)
        edges = self.measure.low + (at + 0.5) * (self.measure.high - self.measure.low) / BINS
        low, high = float(self.lows[which].min()), float(self.highs[which].max())
        middle = [round(float(edge), 4) for edge in np.clip(edges, low, high)]
        mean = float(self.sums[which].sum()) / count
        figures = [round(mean, 4), round(low, 4), *middle, round(high, 4)]
        return {"count": count, **dict(zip(("mean", "min", "p10", "median", "p90", "max"), figures, strict=True))}


@dataclass
class _Counts:
    """What the first pass learns: sums, and the row numbers of the few that may be shown."""

    seed: int
    size: int
    rows: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    stops: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    painted: int = 0
    kept: int = 0
    variant_reasons: Counter[str] = field(default_factory=Counter)
    node_items: Counter[str] = field(default_factory=Counter)
    node_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    pictures: int = 0
    pictures_changed: int = 0
    pixels_changed: int = 0
    spreads: dict[str, _Spread] = field(default_factory=lambda: {name: _Spread(MEASURES[name]) for name in MEASURES})
    few: dict[tuple[str, str], _Few] = field(default_factory=dict)

    def offer(self, group: tuple[str, str], numbers: Numbers, ranks: NDArray[np.float64]) -> None:
        if self.size:
            self.few.setdefault(group, _Few(self.size)).add(numbers, ranks)


def _count(published: Published, seed: int, size: int) -> _Counts:
    counts = _Counts(seed, size)
    for table in manifest.read(published, "items", COUNTED):
        chunk = table.combine_chunks()
        numbers = np.arange(counts.rows, counts.rows + len(chunk))
        chance = _chance(numbers, seed)
        _count_outcomes(counts, chunk, numbers, chance)
        _count_variants(counts, chunk, numbers, chance)
        _count_seconds(counts, chunk)
        _count_changes(counts, chunk)
        counts.rows += len(chunk)
    return counts


def _chance(numbers: Numbers, seed: int) -> NDArray[np.float64]:
    """A number in 0..1 for each row number, the same for the same seed however the rows are split (splitmix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))).astype(np.float64) / 2.0**64


def _count_outcomes(counts: _Counts, table: pa.Table, numbers: Numbers, chance: NDArray[np.float64]) -> None:
    keys = ["status", "reason", "node"]
    for group in table.select(keys).group_by(keys).aggregate([([], "count_all")]).to_pylist():
        status, rows = group["status"], group["count_all"]
        counts.statuses[status] += rows
        if status in (REJECTED, FAILED):
            counts.stops[status, group["reason"] or "", group["node"] or ""] += rows
    counts.offer(("any", "item"), numbers, chance)
    pending = _true(pc.equal(table["status"], PENDING))
    counts.offer(("any", PENDING), numbers[pending], chance[pending])
    stopped = _true(pc.is_in(table["status"], pa.array([REJECTED, FAILED])))
    for reason in _tally(table["reason"].filter(pa.array(stopped))):
        own = stopped & _true(pc.equal(table["reason"], reason))
        counts.offer(("reason", reason), numbers[own], chance[own])


def _count_variants(counts: _Counts, table: pa.Table, numbers: Numbers, chance: NDArray[np.float64]) -> None:
    """Judged variants of items that are ok or rejected; a pending item's are those of an earlier night."""
    judged = _true(pc.is_in(table["status"], pa.array([OK, REJECTED])))
    scored, kept_of, reasons_of = (pc.list_value_length(table[name]) for name in JUDGED)
    judged &= _true(pc.greater(scored, 0)) & _true(pc.equal(scored, kept_of)) & _true(pc.equal(scored, reasons_of))
    own, numbers, chance = table.filter(pa.array(judged)).combine_chunks(), numbers[judged], chance[judged]
    if not len(own):
        return
    parents = np.asarray(pc.list_parent_indices(own["variant_kept"]))
    kept = _true(pc.list_flatten(own["variant_kept"]))
    scores = pc.list_flatten(own["variant_scores"])
    counts.painted += len(kept)
    counts.kept += int(kept.sum())
    values = {name: _floats(pc.struct_field(scores, name)) for name in MEASURES}
    for name, of_name in values.items():
        counts.spreads[name].add(of_name, kept)
    reasons = pc.list_flatten(own["variant_reasons"])
    for reason, count in _tally(reasons).items():
        counts.variant_reasons[reason] += count
        items = np.unique(parents[_true(pc.equal(reasons, reason))])
        counts.offer(("variant", reason), numbers[items], chance[items])
    ranks = values["text_similarity"] + np.nan_to_num(values["reference_similarity"])
    best = np.full(len(own), -np.inf)
    np.maximum.at(best, parents[kept], ranks[kept])
    good = np.isfinite(best)
    counts.offer(("score", "highest"), numbers[good], -best[good])
    counts.offer(("score", "lowest"), numbers[good], best[good])


def _count_seconds(counts: _Counts, table: pa.Table) -> None:
    pairs = table["seconds"].combine_chunks()
    if isinstance(pairs, pa.ChunkedArray):
        pairs = pa.concat_arrays(pairs.chunks)
    flat = pa.table({"node": pairs.keys, "seconds": pairs.items})
    for group in flat.group_by("node").aggregate([("seconds", "sum"), ("seconds", "count")]).to_pylist():
        counts.node_seconds[group["node"]] += group["seconds_sum"] or 0.0
        counts.node_items[group["node"]] += group["seconds_count"]


def _count_changes(counts: _Counts, table: pa.Table) -> None:
    changes = pc.drop_null(pc.list_flatten(table["changed_outside"].filter(pc.equal(table["status"], OK))))
    counts.pictures += len(changes)
    counts.pixels_changed += pc.sum(changes).as_py() or 0
    counts.pictures_changed += pc.sum(pc.greater(changes, 0)).as_py() or 0


def _true(values: Any) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False), np.bool_)


def _floats(values: Any) -> NDArray[np.float64]:
    return np.asarray(pc.fill_null(pc.cast(values, pa.float64()), float("nan")), np.float64)


def _tally(values: Any) -> dict[str, int]:
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(pc.drop_null(values)).to_pylist()}


def reason_words(word: str) -> Reason:
    """The sentence and next step of a reason; one that this version does not know says so."""
    unknown = Reason("permanent", f"This version has no sentence for the reason `{word}`.", "Read the item's detail.")
    return REASONS.get(word, unknown)


def _summary(published: Published, counts: _Counts) -> dict[str, Any]:
    facts, recipe = published.facts, published.facts.get("recipe") or {}
    statuses = {status: counts.statuses[status] for status in STATUSES}
    planned = (facts.get("counts") or {}).get("planned", counts.rows)
    return {
        "run_id": published.run_id,
        "run_uri": published.run_uri,
        "finished_at": facts.get("finished_at"),
        "duration_s": round(sum((facts.get("seconds") or {}).values()), 3) or None,
        "catalogue": facts.get("catalogue"),
        "recipe": recipe.get("name"),
        "models": _models(facts, recipe),
        "sample_world_only": facts.get("sample_world_only", any(model["embedded"] for model in _models(facts, recipe))),
        "planned": planned,
        "counts": statuses,
        "adds_up": planned == sum(statuses.values()) == counts.rows,
        "carried_over": (facts.get("counts") or {}).get("keep"),
        "reasons": [_stop(stop, items) for stop, items in counts.stops.most_common()],
        "variants": {
            "painted": counts.painted,
            "kept": counts.kept,
            "reasons": [
                {"reason": word, "variants": variants, **_words(word)}
                for word, variants in counts.variant_reasons.most_common()
            ],
        },
        "scores": {
            name: {
                "label": spread.measure.label,
                "about": spread.measure.about,
                "threshold": (recipe.get("judge") or {}).get(spread.measure.setting),
                "setting": f"judge.{spread.measure.setting}",
                "at_least": spread.measure.at_least,
                "limits": _limits(recipe, spread.measure),
                "all": spread.told(kept_only=False),
                "kept": spread.told(kept_only=True),
                "histogram": _histogram(spread),
            }
            for name, spread in counts.spreads.items()
        },
        "stages": _stages(facts, counts),
        "exact": (recipe.get("deliver") or {}).get("exact", True),
        "changed_outside": {
            "pictures": counts.pictures,
            "pictures_changed": counts.pictures_changed,
            "pixels": counts.pixels_changed,
        },
        "notes": list(facts.get("notes") or ()),
    }


def _limits(recipe: Mapping[str, Any], measure: Measure) -> bool:
    """Whether the recipe's threshold can refuse anything: one at the end of the range is how it says `any`."""
    threshold = (recipe.get("judge") or {}).get(measure.setting)
    return threshold is not None and measure.low < threshold < measure.high


def _stop(stop: tuple[str, str, str], items: int) -> dict[str, Any]:
    status, word, node = stop
    return {"status": status, "reason": word, "node": node, "items": items, **_words(word)}


def _words(word: str) -> dict[str, str]:
    reason = reason_words(word)
    return {"kind": reason.kind, "sentence": reason.sentence, "next_step": reason.next_step}


def _models(facts: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = facts.get("checkpoints") or [
        {"node": name, **section["checkpoint"]}
        for name, section in recipe.items()
        if isinstance(section, Mapping) and isinstance(section.get("checkpoint"), Mapping)
    ]
    return [
        {
            "node": model["node"],
            "uri": model["uri"],
            "revision": model.get("revision"),
            "sha256": model.get("sha256"),
            "embedded": model["uri"].startswith("embedded:"),
        }
        for model in named
    ]


def _stages(facts: Mapping[str, Any], counts: _Counts) -> list[dict[str, Any]]:
    """Seconds a node: of this run where `run.json` says so, else of every row; an item's mean is over every row."""
    this_run = facts.get("node_seconds") or {}
    names = list(dict.fromkeys([*counts.node_seconds, *this_run]))
    return [
        {
            "node": name,
            "seconds": round(this_run.get(name, 0.0) if this_run else counts.node_seconds[name], 3),
            "items": counts.node_items[name],
            "seconds_an_item": round(counts.node_seconds[name] / max(1, counts.node_items[name]), 5),
        }
        for name in names
    ]


def _histogram(spread: _Spread, columns: int = 40) -> dict[str, Any] | None:
    """Some 40 columns over the range that has values: for each, how many variants were kept and how many were not."""
    used = np.flatnonzero(spread.bins.sum(0))
    if not used.size:
        return None
    width = -(-int(used[-1] + 1 - used[0]) // columns)
    low = int(used[0])
    high = low + -(-int(used[-1] + 1 - low) // width) * width
    bins = np.pad(spread.bins, ((0, 0), (0, max(0, high - BINS))))[:, low:high].reshape(2, -1, width).sum(2)
    step = (spread.measure.high - spread.measure.low) / BINS
    start, stop = spread.measure.low + low * step, spread.measure.low + high * step
    return {"from": round(start, 4), "to": round(stop, 4), "kept": bins[1].tolist(), "not_kept": bins[0].tolist()}


# --- choosing whom to show


@dataclass(frozen=True)
class _Section:
    """A part of the page: row numbers in the order in which they are shown."""

    title: str
    about: str
    numbers: tuple[int, ...]


def _choose(counts: _Counts, max_items: int) -> list[_Section]:
    """Every reason first, then both ends of the scores, then by chance; an item is shown once."""
    taken: set[int] = set()

    def take(groups: Iterable[tuple[str, str]], each: int, most: int) -> tuple[int, ...]:
        queues = [counts.few[group].numbers[:max_items].tolist() for group in groups if group in counts.few]
        got: list[int] = []
        for _ in range(each):  # one of each group, then a second of each, so that no reason goes without
            for queue in queues:
                left = [number for number in queue if number not in taken]
                if left and len(got) < most and len(taken) < max_items:
                    taken.add(left[0])
                    got.append(left[0])
        return tuple(got)

    reasons = [group for group in counts.few if group[0] == "reason"]
    refusals = [group for group in counts.few if group[0] == "variant"]
    stopped = take(reasons, A_REASON, max(len(reasons), max_items // 3))
    refused = take(refusals, 1, len(refusals))
    highest = take([("score", "highest")], max(1, max_items // 12), max_items)
    lowest = take([("score", "lowest")], max(1, max_items // 6), max_items)
    pending = take([("any", PENDING)], 4, 4)
    others = take([("any", "item")], max_items, max_items)
    drawn = counts.rows > max_items
    return [
        section
        for section in (
            _Section("Best of the run", "Delivered items with the highest scores.", highest),
            _Section("Look here first", "Delivered items with the lowest scores: the likeliest to disappoint.", lowest),
            _Section("Not delivered", "Items of every reason for which nothing was delivered.", stopped + pending),
            _Section("Why variants were refused", "Items with a variant of each reason.", refused),
            _Section("Drawn by chance", "What the rest of the run looks like.", others)
            if drawn
            else _Section("The others", "", others),
        )
        if section.numbers
    ]


def _rows(published: Published, numbers: Sequence[int]) -> dict[int, Row]:
    """The rows of these numbers (ascending); files that hold none of them are not read."""
    rows: dict[int, Row] = {}
    start = 0
    for file in published.facts["files"]:
        if not file["path"].startswith("items/"):
            continue
        stop = start + file["rows"]
        own = numbers[bisect.bisect_left(numbers, start) : bisect.bisect_left(numbers, stop)]
        if own:
            alone = replace(published, facts={"files": [file]})
            for table in manifest.read(alone, "items", SHOWN):
                rows.update(zip(own, table.take([number - start for number in own]).to_pylist(), strict=True))
        start = stop
    return rows


# --- an item in words


@dataclass(frozen=True)
class Picture:
    """A small picture inside the page, or why there is none."""

    uri: str = ""
    missing: str = ""
    width: int = 1
    height: int = 1


@dataclass(frozen=True)
class ShownVariant:
    """A variant as the page tells it."""

    number: int
    kept: bool
    sentence: str
    seed: int | None
    prompt: str
    scores: list[tuple[str, str]]
    changed_outside: int | None
    full_uri: str
    full_href: str
    picture: Picture | None = None


@dataclass(frozen=True)
class Box:
    """What the detector found, in percent of the picture."""

    left: float
    top: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Shown:
    """An item as the page tells it; pictures are None where the page has no bytes left for them."""

    number: int
    key: str
    status: str
    words: str
    reason: str
    sentence: str
    next_step: str
    detail: str
    node: str
    find_prompt: str
    source_uri: str
    source_href: str
    size: str
    boxes: list[Box]
    variants: list[ShownVariant]
    more_variants: int
    has_region: bool
    filter_words: str
    source: Picture | None = None
    overlay: str = ""
    before: Picture | None = None
    delivered: Picture | None = None
    delivered_variant: int | None = None
    references: tuple[Picture, ...] = ()


def _shown(row: Row, number: int, recipe: Mapping[str, Any]) -> Shown:
    variants = _variants(row, recipe)
    kept_first = sorted(variants, key=lambda variant: (not variant.kept, variant.number))
    reason = row["reason"] if row["status"] in (REJECTED, FAILED) else None
    best = _best_kept(row)
    refused = sorted({word for word in row["variant_reasons"] or [] if word}) if row["status"] != PENDING else []
    return Shown(
        number=number,
        key=row["item_key"],
        status=row["status"],
        words=STATUS_WORDS[row["status"]],
        reason=reason or "",
        sentence=_sentence(row, reason),
        next_step=reason_words(reason).next_step if reason else "",
        detail=(row["detail"] or "").strip() if row["status"] == FAILED else "",
        node=(row["node"] or "") if reason else "",
        find_prompt=_short(row["find_prompt"]),
        source_uri=row["source_uri"] or "",
        source_href=_href(row["source_uri"]),
        size="{} x {} px".format(*row["size_wh"]) if row["size_wh"] else "",
        boxes=_boxes(row),
        variants=sorted(kept_first[:MAX_VARIANTS], key=lambda variant: variant.number),
        more_variants=max(0, len(variants) - MAX_VARIANTS),
        has_region=bool(row["regions_xyxy"]),
        filter_words=" ".join([row["status"], *([reason] if reason else []), *refused]),
        delivered_variant=None if best is None else best + 1,
    )


def _sentence(row: Row, reason: str | None) -> str:
    if row["status"] == PENDING:
        return "This run stopped before its turn; it is first in the next one."
    if reason:
        return reason_words(reason).sentence
    kept = row["variant_kept"] or []
    return f"{sum(map(bool, kept))} of {len(kept)} variants kept."


def _variants(row: Row, recipe: Mapping[str, Any]) -> list[ShownVariant]:
    seeds = row["variant_seeds"] or []

    def of(column: str, variant: int) -> Any:
        values = row[column]
        return values[variant] if values and variant < len(values) else None

    return [
        ShownVariant(
            number=variant + 1,
            kept=bool(of("variant_kept", variant)),
            sentence=_verdict(
                of("variant_kept", variant), of("variant_reasons", variant), of("variant_scores", variant), recipe
            ),
            seed=seed,
            prompt=_short(of("paint_prompts", variant)),
            scores=_scores(of("variant_scores", variant)),
            changed_outside=of("changed_outside", variant),
            full_uri=of("image_uris", variant) or "",
            full_href=_href(of("image_uris", variant)),
        )
        for variant, seed in enumerate(seeds)
    ]


def _verdict(kept: bool | None, word: str | None, scores: Mapping[str, Any] | None, recipe: Mapping[str, Any]) -> str:
    if kept:
        return "Kept."
    if not word:
        return "Not judged: the item stopped before."
    sentence = reason_words(word).sentence
    for name, measure in MEASURES.items():
        limit = (recipe.get("judge") or {}).get(measure.setting)
        value = (scores or {}).get(name)
        if measure.reason == word and limit is not None and value is not None:
            asked = "at least" if measure.at_least else "at most"
            return f"{sentence.rstrip('.')}: {_number(value)}, and the recipe asks for {asked} {_number(limit)}."
    return sentence


def _scores(scores: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    told = [(measure.label, (scores or {}).get(name)) for name, measure in MEASURES.items()]
    return [(label, _number(value)) for label, value in told if value is not None]


def _boxes(row: Row) -> list[Box]:
    if not row["boxes_xyxy"] or not row["size_wh"]:
        return []
    width, height = (100 / side for side in row["size_wh"])
    found = zip(row["boxes_xyxy"], row["box_scores"] or [], row["box_labels"] or [], strict=False)
    return [
        Box(left * width, top * height, (right - left) * width, (bottom - top) * height, f"{label[:40]} {score:.2f}")
        for (left, top, right, bottom), score, label in list(found)[:MAX_BOXES]
    ]


def _best_kept(row: Row) -> int | None:
    """The kept variant with a picture that scored highest."""
    uris, scores = row["image_uris"] or [], row["variant_scores"] or []
    there = [variant for variant, uri in enumerate(uris) if uri and variant < len(scores) and scores[variant]]
    return max(there, key=lambda variant: _rank(scores[variant]), default=None)


def _rank(scores: Mapping[str, Any]) -> float:
    return float(scores["text_similarity"] or 0.0) + float(scores["reference_similarity"] or 0.0)


def _short(text: str | None, most: int = MAX_TEXT) -> str:
    text = text or ""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _href(uri: str | None) -> str:
    """Where a link may lead: a URI of a kind that holds pictures, else nowhere."""
    if not uri:
        return ""
    if uri.startswith(("s3://", "https://", "http://")):
        return uri
    return Path(uri).as_uri() if Path(uri).is_absolute() else ""


# --- pictures, while there are bytes


@dataclass(frozen=True)
class _Size:
    """How large thumbnails are: the longest side of pictures and of crops, pixels, and the JPEG quality."""

    picture_px: int
    crop_px: int
    quality: int

    def bytes_of(self, row: Row) -> float:
        """What an item's pictures weigh in the page, roughly: 0.16 bytes a pixel, a third more in base64."""
        crops = 1 + min(MAX_VARIANTS, len(row["variant_seeds"] or []))
        return 0.21 * (2 * self.picture_px**2 + crops * self.crop_px**2)


SIZES = (_Size(480, 256, 80), _Size(400, 216, 76), _Size(320, 176, 72), _Size(240, 140, 66))
REFERENCE_PX = 96


class _Fetcher:
    """Reads pictures for the page; after a few refusals of one bucket or disk it is not asked again."""

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self.decoding = Semaphore(DECODE_THREADS)  # decoded pictures are what fills the memory

    def __call__(self, uri: str | None, version: str | None = None) -> tuple[Rgb | None, str]:
        """The picture's pixels, or why they are not there."""
        if not uri:
            return None, "The row names no picture."
        place = "/".join(uri.split("/")[:3]) if "://" in uri else ""
        if self.refusals[place] >= REFUSALS:
            return None, f"{place or 'The disk'} did not answer for other pictures, so it was not asked for this one."
        try:
            encoded = storage.read(uri, version, max_bytes=200_000_000)
            with self.decoding:
                return decode(encoded).rgb, ""
        except ImageError as error:
            return None, f"{reason_words(error.reason).sentence} ({_short(error.detail, 160)})"
        except PackshotError as error:
            self.refusals[place] += isinstance(error, InfrastructureError)
            return None, _short(str(error), 200)


def _with_pictures(bare: list[list[Shown]], rows: Mapping[int, Row], bytes_left: int) -> tuple[list[list[Shown]], int]:
    """The items with their pictures, in order, as long as there are bytes; and how many go without."""
    everyone = [shown for section in bare for shown in section]
    weights = {size: sum(size.bytes_of(rows[one.number]) for one in everyone) for size in SIZES}
    size = next((size for size in SIZES if weights[size] < bytes_left), SIZES[-1])
    fetch = _Fetcher()
    pictured: dict[int, Shown] = {}
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        for start in range(0, len(everyone), 2 * FETCH_THREADS):
            batch = everyone[start : start + 2 * FETCH_THREADS]
            for shown in pool.map(lambda one: _pictured(one, rows[one.number], size, fetch), batch):
                bytes_left -= _weight(shown)
                if bytes_left >= 0:
                    pictured[shown.number] = shown
            if bytes_left < 0:
                break
    return [[pictured.get(one.number, one) for one in section] for section in bare], len(everyone) - len(pictured)


def _weight(shown: Shown) -> int:
    crops = [variant.picture for variant in shown.variants]
    pictures = [one for one in (shown.source, shown.before, shown.delivered, *shown.references, *crops) if one]
    # 400 bytes of tags stand round each picture; an escaped character may take six.
    return len(shown.overlay) + sum(len(one.uri) + 6 * len(one.missing) + 400 for one in pictures)


def _pictured(shown: Shown, row: Row, size: _Size, fetch: _Fetcher) -> Shown:
    source, why_not = fetch(row["source_uri"], row["source_version"])
    regions = row["regions_xyxy"] or []
    best = _best_kept(row)
    shown_source = _small(source, why_not, size.picture_px, size.quality)
    has_mask = source is not None and row["allow_mask_rle"] is not None
    return replace(
        shown,
        source=shown_source,
        overlay=_overlay(row["allow_mask_rle"], (shown_source.width, shown_source.height)) if has_mask else "",
        before=_before(source, why_not, regions, size),
        delivered=None if best is None else _small(*fetch(row["image_uris"][best]), size.picture_px, size.quality),
        variants=[
            replace(variant, picture=_crop(row, variant.number - 1, len(regions), size, fetch))
            for variant in shown.variants
        ],
        references=tuple(
            _small(*fetch(uri), REFERENCE_PX, size.quality) for uri in (row["reference_uris"] or [])[:MAX_REFERENCES]
        ),
    )


def _before(source: Rgb | None, why_not: str, regions: Sequence[Sequence[int]], size: _Size) -> Picture | None:
    """The source's regions, framed as the variants' crops are."""
    if not regions:
        return None
    if source is None:
        return _picture(None, why_not, size.quality)
    shown = [(left, top, right, bottom) for left, top, right, bottom in regions[:MAX_REGIONS]]
    return _picture(_montage([cut(source, region, size.crop_px) for region in shown], size.crop_px), "", size.quality)


def _crop(row: Row, variant: int, regions: int, size: _Size, fetch: _Fetcher) -> Picture | None:
    uris = row["crop_uris"] or []
    own = uris[variant * regions : (variant + 1) * regions][:MAX_REGIONS]
    if not own:
        return Picture(missing="No crop was stored.")
    fetched = [fetch(uri) for uri in own]
    there = [thumbnail(rgb, size.crop_px) for rgb, _ in fetched if rgb is not None]
    why_not = next((why for _, why in fetched if why), "")
    return _picture(None if why_not else _montage(there, size.crop_px), why_not, size.quality)


def _montage(crops: Sequence[Rgb], side_px: int) -> Rgb:
    """One crop as it is, up to four in a square of two by two."""
    if len(crops) == 1:
        return crops[0]
    half = side_px // 2
    sheet = np.full((2 * half, 2 * half, 3), 255, np.uint8)
    for place, crop in enumerate(crops[:MAX_REGIONS]):
        small = thumbnail(crop, half - 1)
        top, left = (place // 2) * half, (place % 2) * half
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    return sheet


def _small(rgb: Rgb | None, why_not: str, side_px: int, quality: int) -> Picture:
    return _picture(None if rgb is None else thumbnail(rgb, side_px), why_not, quality)


def _picture(rgb: Rgb | None, why_not: str, quality: int) -> Picture:
    if rgb is None:
        return Picture(missing=why_not)
    return Picture(_data_uri(encode(rgb, "jpeg", quality=quality), "jpeg"), width=rgb.shape[1], height=rgb.shape[0])


def _overlay(rle: Mapping[str, Any], size_wh: tuple[int, int]) -> str:
    """The mask as a see-through picture to lie over the thumbnail: a tint inside, an outline round it."""
    width, height = size_wh
    full = Image.fromarray(from_rle(rle).astype(np.uint8) * 255)
    mask = np.asarray(full.resize((width, height), Image.Resampling.BOX)) >= 128
    outline = mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1)
    alpha = np.where(outline, OUTLINE_ALPHA, np.where(mask, TINT_ALPHA, 0)).astype(np.uint8)
    colour = np.broadcast_to(np.asarray(OUTLINE_RGB, np.uint8), (height, width, 3))
    return _data_uri(encode(np.ascontiguousarray(colour), "png", alpha=alpha), "png")


def _data_uri(encoded: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"


# --- the page


def _page(
    facts: Mapping[str, Any], sections: Sequence[_Section], shown: Sequence[Sequence[Shown]], without: int = 0
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"thousands": "{:,}".format, "duration": _duration, "percent": _percent, "number": _number}
    environment.filters["code"] = _code
    template = environment.get_template("report.html.jinja")
    parts = list(zip(sections, shown, strict=True))
    everyone = [one for section in shown for one in section]
    return template.render(
        run=facts,
        parts=parts,
        shown=len(everyone),
        without=without,
        failed=[one for one in everyone if one.status == FAILED],
        refusals=_refusal_words(everyone),
        status_words=STATUS_WORDS,
        steps=list(_next_steps(facts)),
        slowest=max((stage["seconds"] for stage in facts["stages"]), default=0) or 1,
    )


def _refusal_words(everyone: Iterable[Shown]) -> list[tuple[str, str]]:
    """The reasons among the shown items, for the filter: the word and its sentence."""
    words = {word for one in everyone for word in one.filter_words.split() if word not in STATUSES}
    return sorted(((word, reason_words(word).sentence) for word in words), key=lambda pair: pair[1])


@dataclass(frozen=True)
class Step:
    """What a person should do about something; `reason` is the word by which the page finds the items."""

    grave: bool
    text: str
    todo: str
    reason: str = ""


def _next_steps(facts: Mapping[str, Any]) -> Iterator[Step]:
    """The gravest first; none when nothing waits for anybody."""
    changed, pending = facts["changed_outside"], facts["counts"][PENDING]
    if not facts["adds_up"]:
        yield Step(True, "The counts do not add up.", "Do not use this run; please report it.")
    if changed["pixels"] and facts["exact"]:
        pictures = f"{changed['pictures_changed']:,} {'picture' if changed['pictures_changed'] == 1 else 'pictures'}"
        text = f"{pictures} changed outside their mask although the recipe is exact."
        yield Step(True, text, "Hold these pictures back; please report it.")
    for status in (FAILED, REJECTED):
        yield from (_next_step(stop) for stop in facts["reasons"] if stop["status"] == status)
    if pending:
        text = f"{_items(pending)} not done, since the run was told to stop."
        yield Step(False, text, "Nothing: the next run begins with them.")


def _next_step(stop: Mapping[str, Any]) -> Step:
    failed = stop["status"] == FAILED
    again = " The next run tries again by itself." if failed and stop["kind"] == "transient" else ""
    where = f" at {stop['node']}" if stop["node"] else ""
    text = f"{_items(stop['items'])} {STATUS_WORDS[stop['status']]}{where}: {stop['sentence']}"
    return Step(failed, text, f"{stop['next_step']}{again}", stop["reason"])


def _items(count: int) -> str:
    return f"{count:,} {'item' if count == 1 else 'items'}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 1:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.0095 else f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _code(text: str) -> Markup:
    """Text with what stands in backticks as code, all of it escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.4g}" if whole else "0"
