"""What known tools' paste-backs change outside the mask, beside our own, on pictures painted by the embedded models.

Each function repeats a tool's arithmetic with its default numbers (read in the tools' sources, as noted); none is the
tool itself. `python -m pipelines.evaluation.paste_backs` prints the table of the README.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter, grey_dilation

from pipelines import catalogue
from pipelines import recipe as recipes
from pipelines.executors import inline
from pipelines.graph import build
from pipelines.pixels.composite import changed_outside, paste
from pipelines.pixels.images import decode, encode
from pipelines.pixels.masks import from_rle
from pipelines.sample.scenes import scene

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]
FIRST_SEED = 1_700_000


def _blend(source: Rgb, painted: Rgb, alpha: NDArray[np.floating]) -> Rgb:
    return (
        np.asarray(alpha[..., None] * painted + (1 - alpha[..., None]) * source).round().clip(0, 255).astype(np.uint8)
    )


def _pillow_blur(mask: Mask, radius: float) -> NDArray[np.float64]:
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float64) / 255


def no_paste(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The pipeline's output as it is: a plain diffusers or Grounded-SAM demo."""
    return painted


def diffusers_overlay(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """diffusers' `apply_overlay` with the mask processor's default blur factor of 4."""
    return _blend(source, painted, _pillow_blur(mask, 4))


def webui(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Stable Diffusion web UI (A1111): its default mask blur of 4."""
    return _blend(source, painted, gaussian_filter(mask.astype(float), 4, truncate=2.5))


def iopaint(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """IOPaint: `sd_mask_blur` 11 as a kernel of 23, and a blend cut down to whole numbers."""
    alpha = gaussian_filter(mask.astype(float), 0.3 * ((23 - 1) * 0.5 - 1) + 0.8, radius=11)[..., None]
    return np.asarray(painted * alpha + source * (1 - alpha)).astype(np.uint8)


def crop_and_stitch(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """ComfyUI Crop&Stitch: `mask_blend_pixels` 32, grown by half of it and blurred."""
    grown = grey_dilation(mask.astype(np.uint8), (33, 33)).astype(float)
    return _blend(source, painted, gaussian_filter(grown, 8))


def catvton(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """CatVTON `--repaint`: a box blur twice as wide as a fiftieth of the height."""
    radius = max(1, mask.shape[0] // 50)
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    alpha = np.asarray(blurred, np.float64)[..., None] / 255
    return np.asarray(painted * alpha + source * (1 - alpha)).astype(np.uint8)


def packshot(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Inward feather and a hard copy outside."""
    return paste(source, painted, mask, feather_px=4.0)


TOOLS: dict[str, Callable[[Rgb, Rgb, Mask], Rgb]] = {
    "no paste-back (plain pipeline)": no_paste,
    "diffusers `apply_overlay`, blur 4": diffusers_overlay,
    "A1111, mask blur 4": webui,
    "IOPaint, mask blur 11": iopaint,
    "Crop&Stitch, blend 32": crop_and_stitch,
    "CatVTON, repaint": catvton,
    "Packshot": packshot,
}


@dataclass(frozen=True)
class Changed:
    """One tool's sum over all pictures: pixels changed outside the masks, and how many there were."""

    tool: str
    changed: int
    outside: int


def compare(pictures: int = 12, size_wh: tuple[int, int] = (768, 768)) -> list[Changed]:
    """Paint sample scenes with the embedded models, paste each back in every tool's way, and count."""
    examples = list(_painted(pictures, size_wh))
    return [
        Changed(
            tool,
            sum(changed_outside(source, back(source, painted, mask), mask) for source, painted, mask in examples),
            sum(int((~mask).sum()) for _, _, mask in examples),
        )
        for tool, back in TOOLS.items()
    ]


def _painted(pictures: int, size_wh: tuple[int, int]) -> Iterator[tuple[Rgb, Rgb, Mask]]:
    """Sources, whole pictures as the painter made them (region resized back), and masks."""
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
            left, top, right, bottom = row["regions_xyxy"][0]
            side = round((len(row["variant_crops"][0]) / 3) ** 0.5)
            crop = Image.fromarray(np.frombuffer(row["variant_crops"][0], np.uint8).reshape(side, side, 3))
            whole = Image.fromarray(source.copy())
            whole.paste(crop.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
            yield source, np.asarray(whole), from_rle(row["allow_mask_rle"])


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


def main() -> None:
    """Print the table."""
    table = Table("paste-back", "pixels changed outside the mask")
    for one in compare():
        table.add_row(one.tool, f"{100 * one.changed / one.outside:.2f} %" if one.changed else "0")
    Console().print(table)


if __name__ == "__main__":
    main()
