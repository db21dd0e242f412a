"""Paint sample scenes and compare paste-backs on them: `python -m sample_world.evaluation.paste_backs`.

Prints the table of the README; the paste-backs themselves are in `pipelines.pixels.paste_backs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipelines import catalogue
from pipelines import recipe as recipes
from pipelines.executors import inline
from pipelines.graph import build
from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import Rgb, decode, encode
from pipelines.pixels.masks import from_rle
from pipelines.pixels.paste_backs import Example, OutsideChange, compare
from pipelines.rows import Row
from sample_world.drawing.scenes import scene
from sample_world.evaluation.figures import average

FIRST_SEED: Final = 1_700_000
SIZES_WH: Final = ((768, 768), (1600, 2000))


def painted_scenes(pictures: int, size_wh: tuple[int, int]) -> Iterator[Example]:
    """Sample scenes, each with its largest product repainted by the embedded models; without those not found."""
    given = {
        "name": "paste-backs",
        "models": "embedded",
        "prompts": {"find": "{category}", "paint": "a red {category}"},
    }
    recipe = recipes.parse({**given, "paint": {"variants": 1}})
    rows = inline.run(build(recipe), catalogue.rows(recipe, _table(pictures, size_wh), None))
    for row in rows:
        if row.get("variant_crops"):
            source = decode(row["image_bytes"]).rgb
            yield source, whole_as_painted(source, row), from_rle(row["allow_mask_rle"])


def whole_as_painted(source: Rgb, row: Row) -> Rgb:
    """A row's whole picture (H, W, 3) as the painter made it: its first crop, resized back, and nothing pasted."""
    left, top, right, bottom = row["regions_xyxy"][0]
    crop = Image.fromarray(from_raw(row["variant_crops"][0]))
    whole = Image.fromarray(source.copy())
    whole.paste(crop.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    return np.asarray(whole)


def _table(pictures: int, size_wh: tuple[int, int]) -> pa.Table:
    scenes = [scene(FIRST_SEED + number, size_wh) for number in range(pictures)]
    largest: Sequence[str] = [max(one.objects, key=lambda thing: int(thing.mask.sum())).category for one in scenes]
    return pa.table(
        {
            "sku": [str(number) for number in range(pictures)],
            "category": list(largest),
            "given_image_bytes": pa.array([encode(one.rgb, "png") for one in scenes], pa.large_binary()),
        }
    )


def as_table(by_size: dict[str, list[OutsideChange]]) -> Table:
    """All tools below each other, all picture sizes beside each other."""
    table = Table("paste-back")
    for size in by_size:
        table.add_column(f"{size}: changed outside the mask")
        table.add_column("at most")
        table.add_column("reaches")
    for of_one_tool in zip(*by_size.values(), strict=True):
        table.add_row(of_one_tool[0].tool, *(cell for one in of_one_tool for cell in _cells(one)))
    return table


def as_facts(changes: Sequence[OutsideChange]) -> list[dict[str, Any]]:
    """The same for JSON, a tool each."""
    return [
        {"tool": one.tool, "share": vars(average(one.shares)), "largest": one.largest, "reach_px": one.reach_px}
        for one in changes
    ]


def _cells(one: OutsideChange) -> tuple[str, str, str]:
    if not one.shares:
        return "no picture", "", ""
    if not one.largest:
        return "0", "0", "0"
    share = average(one.shares)
    shown = f"{share.value:.2%} ({share.low:.2%} to {share.high:.2%}, n = {share.n})"
    return shown, f"{one.largest} levels", f"{one.reach_px:.0f} px"


def main(pictures: int = 12) -> None:
    """Print the table."""
    by_size = {f"{wide} x {high}": compare(painted_scenes(pictures, (wide, high))) for wide, high in SIZES_WH}
    Console().print(as_table(by_size))


if __name__ == "__main__":
    main()
