"""One picture of many pairs, so that a person can look for himself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from pipelines.pixels.images import Rgb
from sample_world.evaluation.painting import Painted

PAIRS: Final = 64
COLUMNS: Final = 6
PICTURE_PX: Final = 144
GAP_PX: Final = 6
WORDS_PX: Final = 20
COLOURS_OF_SHEET: Final = 256


@dataclass(frozen=True, eq=False)
class Pair:
    """A source, what was made of it (None: nothing), and the words below them."""

    source: Rgb
    result: Rgb | None
    words: str


def contact_sheet(painted: Sequence[Painted], path: Path) -> None:
    """Write the first 64 repaints, in the order given, as pairs over the words that were asked for."""
    questions = ("pattern", "colour", "category")
    pairs = [
        Pair(one.source, one.finished, " ".join(one.order.words[question] for question in questions))
        for one in painted[:PAIRS]
    ]
    write_pairs(pairs, path)


def write_pairs(pairs: Sequence[Pair], path: Path, columns: int = COLUMNS) -> None:
    """Write pairs, in the order given, as a PNG of 256 colours, which keeps 64 pairs below 3 MB.

    Each picture fits into 144 x 144 pixels.
    """
    cell_wh = 2 * PICTURE_PX + 2 * GAP_PX, PICTURE_PX + WORDS_PX + GAP_PX
    rows = max(1, -(-len(pairs) // columns))
    sheet = Image.new("RGB", (columns * cell_wh[0] + GAP_PX, rows * cell_wh[1] + GAP_PX), "white")
    for number, pair in enumerate(pairs):
        _draw(sheet, pair, GAP_PX + number % columns * cell_wh[0], GAP_PX + number // columns * cell_wh[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(COLOURS_OF_SHEET).save(path, "PNG", optimize=True)


def _draw(sheet: Image.Image, pair: Pair, left: int, top: int) -> None:
    for number, rgb in enumerate((pair.source, pair.result)):
        if rgb is not None:
            scale = PICTURE_PX / max(rgb.shape[:2])
            size_wh = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
            small = Image.fromarray(rgb).resize(size_wh, Image.Resampling.LANCZOS)
            sheet.paste(small, (left + number * (PICTURE_PX + 1), top))
    ImageDraw.Draw(sheet).text((left, top + PICTURE_PX + 2), pair.words, "black", ImageFont.load_default(14))
