"""What known tools' paste-backs change outside the mask, beside our own, on the same painted crops.

Each function repeats a tool's arithmetic with its default numbers (read in the tools' sources, as noted); none is the
tool itself. `python -m sample_world.evaluation.paste_backs` paints sample scenes with the embedded models and prints
the table of the README.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from rich.console import Console
from rich.table import Table
from scipy.ndimage import distance_transform_edt, gaussian_filter, grey_dilation

from pipelines import catalogue
from pipelines import recipe as recipes
from pipelines.executors import inline
from pipelines.graph import build
from pipelines.pixels.composite import changed_outside, paste
from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import decode, encode
from pipelines.pixels.masks import from_rle
from pipelines.rows import Row
from sample_world.drawing.scenes import scene
from sample_world.evaluation.figures import Figure, average

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Example = tuple[Rgb, Rgb, Mask]
"""A source, the whole picture as a painter made it (its crop resized back), both (H, W, 3), and the mask (H, W)."""
FIRST_SEED: Final = 1_700_000
SIZES_WH: Final = ((768, 768), (1600, 2000))


def no_paste(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The pipeline's output as it is: a plain diffusers or Grounded-SAM demo."""
    return painted


def diffusers_binary(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """diffusers' `apply_overlay` with the mask as it is."""
    return _overlay(source, painted, _grey(mask))


def diffusers_blurred(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The same with the mask blurred by the processor's default factor of 4."""
    return _overlay(source, painted, _grey(mask).filter(ImageFilter.GaussianBlur(4)))


def diffusers_as_documented(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The same with the factor of 33 of its documentation's example."""
    return _overlay(source, painted, _grey(mask).filter(ImageFilter.GaussianBlur(33)))


def webui(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Stable Diffusion web UI (A1111): its default mask blur of 4, a kernel of 21, under the same kind of overlay."""
    return _overlay(source, painted, Image.fromarray(cv2.GaussianBlur(np.asarray(_grey(mask)), (21, 21), 4)))


def iopaint(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """IOPaint: `sd_mask_blur` 11 as a kernel of 23, and a blend cut down to whole numbers."""
    return _cut_blend(source, painted, cv2.GaussianBlur(np.asarray(_grey(mask)), (23, 23), 0))


def crop_and_stitch(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """ComfyUI Crop&Stitch: `mask_blend_pixels` 32 grows by a square of 13, blurs twice by 4, cuts what is below 0.1."""
    once = gaussian_filter(grey_dilation(mask.astype(np.float32), (13, 13)), 4)
    alpha = gaussian_filter(np.where(once < 0.1, 0, once), 4)[..., None]
    return np.asarray(np.rint(alpha * painted + (1 - alpha) * source), np.uint8)


def catvton(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """CatVTON `--repaint`: a blur of a fiftieth of the height, made odd, and a blend cut down to whole numbers."""
    radius = mask.shape[0] // 50
    radius += 1 - radius % 2
    return _cut_blend(source, painted, np.asarray(_grey(mask).filter(ImageFilter.GaussianBlur(radius))))


def fooocus(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Fooocus: the mask grown by 12 and box-blurred by 25, whole where it was given, and a blend cut down."""
    soft = _grey(mask).filter(ImageFilter.MaxFilter(25)).filter(ImageFilter.BoxBlur(25))
    return _cut_blend(source, painted, np.where(mask, np.uint8(255), np.asarray(soft)))


def packshot(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Inward feather and a hard copy outside."""
    return paste(source, painted, mask, feather_px=4.0)


def packshot_as_jpeg(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The exact picture, saved once more as a JPEG of quality 95: why the container has to be lossless."""
    return decode(encode(packshot(source, painted, mask), "jpeg"), keep=False).rgb


TOOLS: Final[dict[str, Callable[[Rgb, Rgb, Mask], Rgb]]] = {
    "none (plain pipeline)": no_paste,
    "diffusers `apply_overlay`, binary": diffusers_binary,
    "diffusers `apply_overlay`, blur 4": diffusers_blurred,
    "diffusers `apply_overlay`, blur 33": diffusers_as_documented,
    "A1111, mask blur 4": webui,
    "IOPaint, mask blur 11": iopaint,
    "Crop&Stitch, blend 32": crop_and_stitch,
    "CatVTON, repaint": catvton,
    "Fooocus": fooocus,
    "Packshot, saved as JPEG 95": packshot_as_jpeg,
    "Packshot": packshot,
}


@dataclass(frozen=True)
class Changed:
    """What one paste-back did outside the masks of all pictures.

    share: of the pixels outside, how many changed, 0..1, averaged over the pictures. largest: the largest change of a
    channel, levels. reach_px: how far from the mask the furthest change lies, pixels. Both are 0 where nothing changed.
    """

    tool: str
    share: Figure
    largest: int
    reach_px: float


def compare(examples: Iterable[Example]) -> list[Changed]:
    """Paste each painted picture back in every tool's way, and measure outside its mask; one picture at a time.

    Examples whose mask is everything have no outside and are left out.
    """
    shares: dict[str, list[float]] = {tool: [] for tool in TOOLS}
    largest, reach_px = dict.fromkeys(TOOLS, 0), dict.fromkeys(TOOLS, 0.0)
    for source, painted, mask in examples:
        if mask.all():
            continue
        outside, distance_px = ~mask, distance_transform_edt(~mask)
        for tool, back in TOOLS.items():
            made = back(source, painted, mask)
            changes = np.abs(made.astype(np.int16) - source).max(axis=2) * outside
            shares[tool].append(changed_outside(source, made, mask) / int(outside.sum()))
            largest[tool] = max(largest[tool], int(changes.max()))
            reach_px[tool] = max(reach_px[tool], float(distance_px[changes > 0].max(initial=0)))
    return [Changed(tool, average(shares[tool]), largest[tool], reach_px[tool]) for tool in TOOLS]


def _grey(mask: Mask) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _overlay(source: Rgb, painted: Rgb, mask: Image.Image) -> Rgb:
    """The source, cut out where the mask is not, laid over the painted picture, by way of premultiplied alpha."""
    kept = Image.new("RGBa", mask.size)
    kept.paste(Image.fromarray(source).convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    under = Image.fromarray(painted).convert("RGBA")
    return np.asarray(Image.alpha_composite(under, kept.convert("RGBA")).convert("RGB"))


def _cut_blend(source: Rgb, painted: Rgb, soft: NDArray[Any]) -> Rgb:
    """A blend that is cut down, not rounded, to whole numbers."""
    alpha = soft[..., None] / 255
    return np.asarray(painted * alpha + source * (1 - alpha)).astype(np.uint8)


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


def as_table(by_size: dict[str, list[Changed]]) -> Table:
    """All tools below each other, all picture sizes beside each other."""
    table = Table("paste-back")
    for size in by_size:
        table.add_column(f"{size}: changed outside the mask")
        table.add_column("at most")
        table.add_column("reaches")
    for of_one_tool in zip(*by_size.values(), strict=True):
        table.add_row(of_one_tool[0].tool, *(cell for one in of_one_tool for cell in _cells(one)))
    return table


def _cells(one: Changed) -> tuple[str, str, str]:
    if not one.share.n:
        return "no picture", "", ""
    if not one.largest:
        return "0", "0", "0"
    share = f"{one.share.value:.2%} ({one.share.low:.2%} to {one.share.high:.2%}, n = {one.share.n})"
    return share, f"{one.largest} levels", f"{one.reach_px:.0f} px"


def main(pictures: int = 12) -> None:
    """Print the table."""
    by_size = {f"{wide} x {high}": compare(painted_scenes(pictures, (wide, high))) for wide, high in SIZES_WH}
    Console().print(as_table(by_size))


if __name__ == "__main__":
    main()
