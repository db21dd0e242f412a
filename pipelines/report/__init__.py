"""The page that an operator reads in the morning: one HTML file, with everything in it, from a published run."""

from pathlib import Path
from typing import Any

from pipelines.night import manifest
from pipelines.night.manifest import Published
from pipelines.report.choose import Choice, read_rows
from pipelines.report.counts import COLUMNS, Counts
from pipelines.report.page import describe, render
from pipelines.report.pictures import draw_all, gaps

__all__ = ["summary", "write_report"]

NOTICE_BYTES = 1_000


def write_report(
    published: Published, html_path: Path, seed: int = 0, max_items: int = 300, max_bytes: int = 24_000_000
) -> Path:
    """Write the page of a published run and return its path.

    The counts are over every row. At most `max_items` items are shown: some of every reason, those with the lowest and
    the highest scores, and others drawn by `seed`; fewer if their text alone would take a third of the page. Thumbnails
    are fetched until the page has `max_bytes`; one that cannot be fetched leaves a labelled gap.

    Raises:
        InfrastructureError: the manifest cannot be read, or is not what `run.json` says.
    """
    counts, choice = Counts(), Choice(seed, max_items)
    for table in manifest.read(published, "items", COLUMNS):
        counts.add(table)
        choice.add(table)
    run, sections = counts.summary(published), choice.sections()
    rows = read_rows(published, [number for section in sections for number in section.numbers])
    items = {number: describe(row, published.facts["recipe"]) for number, row in rows.items()}

    no_pictures = {number: gaps(row) for number, row in rows.items()}
    text_bytes = len(render(run, sections, items, no_pictures).encode())
    if text_bytes > max_bytes / 3 and max_items > 1:
        return write_report(published, html_path, seed, max_items // 2, max_bytes)
    pictures = draw_all(rows, max_bytes - text_bytes - NOTICE_BYTES)
    html_path.parent.mkdir(parents=True, exist_ok=True)
    without = len(rows) - len(pictures)
    html_path.write_text(render(run, sections, items, no_pictures | pictures, without), encoding="utf-8")
    return html_path


def summary(published: Published) -> dict[str, Any]:
    """The counts of the page, over every row, as plain data for JSON."""
    counts = Counts()
    for table in manifest.read(published, "items", COLUMNS):
        counts.add(table)
    return counts.summary(published)
