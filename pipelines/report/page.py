"""The page itself: items described in words, and the HTML template filled in, all text of a catalogue escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from pipelines.report.choose import Section
from pipelines.report.counts import reason_words
from pipelines.report.pictures import Thumbnails
from pipelines.rows import FAILED, OK, PENDING, REJECTED, Row
from pipelines.scores import MEASURES

STATUS_WORDS = {OK: "delivered", REJECTED: "rejected", FAILED: "failed", PENDING: "pending"}


@dataclass(frozen=True)
class VariantWords:
    """A variant in words; `scores` are pairs of a label and a value."""

    kept: bool
    sentence: str
    seed: int
    prompt: str
    scores: list[tuple[str, float]]
    changed_outside: int | None


@dataclass(frozen=True)
class ItemWords:
    """An item in words, and its row."""

    row: Row
    sentence: str
    next_step: str
    found: str
    files: list[str]
    reasons: set[str]
    variants: list[VariantWords]


def describe(row: Row, recipe: Mapping[str, Any]) -> ItemWords:
    """Describe an item; `recipe` is the run's recipe as plain data."""
    pending, stopped = row["status"] == PENDING, row["status"] in (REJECTED, FAILED)
    kept = row["variant_kept"] or []
    if pending:
        sentence = "It waits for the next run; this one was told to do fewer items."
    elif stopped:
        sentence = reason_words(row["reason"]).sentence
    else:
        sentence = f"{sum(map(bool, kept))} of {len(kept)} variants kept."
    words = [PENDING] if pending else [row["reason"] if stopped else None, *(row["variant_reasons"] or [])]
    boxes = zip(row["box_labels"] or [], row["box_scores"] or [], strict=False)
    return ItemWords(
        row=row,
        sentence=sentence,
        next_step=reason_words(row["reason"]).next_step if stopped else "",
        found=", ".join(f"{label} {score:.2f}" for label, score in list(boxes)[:8]),
        files=[uri for uri in (row["source_uri"], *(row["image_uris"] or [])) if uri],
        reasons={word for word in words if word},
        variants=[_variant(row, number, recipe) for number in range(len(row["variant_seeds"] or []))],
    )


def _variant(row: Row, number: int, recipe: Mapping[str, Any]) -> VariantWords:
    def fact(column: str) -> Any:
        """The variant's value in a list column; None if the list is shorter, or null."""
        return dict(enumerate(row[column] or [])).get(number)

    scores = fact("variant_scores") or {}
    kept = bool(fact("variant_kept"))
    return VariantWords(
        kept=kept,
        sentence="Kept." if kept else _why_not(fact("variant_reasons"), scores, recipe),
        seed=fact("variant_seeds"),
        prompt=fact("paint_prompts") or "",
        scores=[(one.label, scores[one.name]) for one in MEASURES if scores.get(one.name) is not None],
        changed_outside=fact("changed_outside"),
    )


def _why_not(word: str | None, scores: Mapping[str, float], recipe: Mapping[str, Any]) -> str:
    if not word:
        return "Not judged: the item stopped before."
    sentence = reason_words(word).sentence
    for one in MEASURES:
        threshold = recipe["judge"].get(one.setting)  # none by `keep: all`; a pending item was judged by another recipe
        if one.reason == word and threshold is not None:
            sentence = f"{sentence[:-1]}: {scores[one.name]:.2f}, and the recipe asks for {one.asked} {threshold:.2f}."
    return sentence


def render(
    run: Mapping[str, Any],
    sections: Sequence[Section],
    items: Mapping[int, ItemWords],
    pictures: Mapping[int, Thumbnails],
    without: int = 0,
) -> str:
    """Fill in the template.

    Args:
        run: the summary of a run.
        sections: the parts of the page, with the row numbers of their items.
        items: the shown items by row number.
        pictures: their pictures, or labelled gaps, by row number.
        without: how many of them have gaps because the page is full.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = "{:,}".format
    environment.filters["code"] = _code
    first_with: dict[str, int] = {}
    for number in (number for section in sections for number in section.numbers):
        for word in items[number].reasons:
            first_with.setdefault(word, number)
    return environment.get_template("page.html.jinja").render(
        run=run,
        duration=timedelta(seconds=round(run["duration_s"])),
        slowest_s=max((stage["seconds"] for stage in run["stages"]), default=0) or 1,
        status_words=STATUS_WORDS,
        first_with=first_with,
        sections=sections,
        items=items,
        pictures=pictures,
        without=without,
    )


def _code(text: str) -> Markup:
    """The text, escaped, with what is in backticks as code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))
