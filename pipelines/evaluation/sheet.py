"""One picture of many repaints, so that a person can look for himself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from pipelines.evaluation.painting import Painted

PAIRS: Final = 64
COLUMNS: Final = 6
PICTURE_PX: Final = 144
GAP_PX: Final = 6
WORDS_PX: Final = 20
COLOURS_OF_SHEET: Final = 256


def contact_sheet(painted: Sequence[Painted], path: Path) -> None:
    """Write the first 64 repaints, in the order given, as pairs of source and repaint over the words that were asked.

    A PNG of some 1800 pixels' width and 256 colours, which keeps 64 pairs below 3 MB.
    """
    shown = painted[:PAIRS]
    cell_wh = 2 * PICTURE_PX + 2 * GAP_PX, PICTURE_PX + WORDS_PX + GAP_PX
    rows = -(-len(shown) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * cell_wh[0] + GAP_PX, max(1, rows) * cell_wh[1] + GAP_PX), "white")
    for number, one in enumerate(shown):
        _draw_pair(sheet, one, GAP_PX + number % COLUMNS * cell_wh[0], GAP_PX + number // COLUMNS * cell_wh[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(COLOURS_OF_SHEET).save(path, "PNG", optimize=True)


def _draw_pair(sheet: Image.Image, one: Painted, left: int, top: int) -> None:
    for number, crop in enumerate((one.source, one.finished)):
        small = Image.fromarray(crop).resize((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + number * (PICTURE_PX + 1), top))
    words = " ".join(one.order.words[question] for question in ("pattern", "colour", "category"))
    ImageDraw.Draw(sheet).text((left, top + PICTURE_PX + 2), words, "black", ImageFont.load_default(14))
