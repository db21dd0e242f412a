"""The files that `packshot try` writes, and the text that describes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from jobs.try_one.options import Where
from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import Rgb, decode, encode, thumbnail
from pipelines.pixels.masks import from_rle
from pipelines.recipe import Recipe
from pipelines.rows import FAILED, REASONS, Row
from pipelines.scores import rank
from pipelines.stages.compositing import finished_picture

DIFFERENCE_GAIN = 4  # so that a change of a few levels can be seen
OWN_FILES = re.compile(r"(mask|before-after|difference)\.png|recipe\.yaml|variant-\d+\.(png|webp|jpeg)")


def clear(folder: Path, recipe: Recipe, where: Where) -> None:
    """Remove the files of an earlier try and write `recipe.yaml`, before any rendering.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    if where.mask_bytes is not None and recipe.catalogue.mask is None:
        recipe = recipe.model_copy(update={"catalogue": recipe.catalogue.model_copy(update={"mask": "mask"})})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if OWN_FILES.fullmatch(path.name):
                path.unlink()
        (folder / "recipe.yaml").write_text(recipes.dump(recipe), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}; give another `--output`") from error


def facts_of(row: Row) -> dict[str, Any]:
    """The outcome of a finished row and of its variants, as plain data."""
    scores, kept = row.get("variant_scores") or [], row.get("variant_kept") or []
    return {
        "status": row["status"],
        "reason": row["reason"],
        "detail": row["detail"],
        "boxes_xyxy": row.get("boxes_xyxy"),
        "box_scores": row.get("box_scores"),
        "variants": [
            {
                "variant": number,
                "seed": row["variant_seeds"][number],
                "kept": kept[number],
                "reason": row["variant_reasons"][number],
                "changed_outside": row["changed_outside"][number],
                **score,
            }
            for number, score in enumerate(scores)
            if kept
        ],
    }


def write_pictures(folder: Path, source: Rgb, row: Row, facts: dict[str, Any], feather_px: float) -> None:
    """Write the mask, the variants and the comparison; adds each variant's `file`, and the `best`, to the facts."""
    mask = from_rle(row["allow_mask_rle"])
    (folder / "mask.png").write_bytes(encode(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), "png"))
    for variant in facts["variants"]:
        number = variant["variant"]
        name, data = f"variant-{number}.png", row["image_files"][number]
        if variant["kept"]:
            name = f"variant-{number}.{row['image_formats'][number]}"
        else:
            data = encode(_refused_picture(row, number, feather_px), "png")
        (folder / name).write_bytes(data)
        variant["file"] = name
    if facts["variants"]:
        best = min(facts["variants"], key=lambda variant: (not variant["kept"], rank(variant)))
        facts["best"] = best["variant"]
        _compare(folder, source, _on_white((folder / best["file"]).read_bytes()))


def _refused_picture(row: Row, variant: int, feather_px: float) -> Rgb:
    """The full picture of a variant that the judge refused, as `deliver` would have made it."""
    count = len(row["regions_xyxy"])
    crops = [from_raw(raw) for raw in row["finished_crops"][variant * count : (variant + 1) * count]]
    return finished_picture(row, crops, feather_px)


def _on_white(encoded: bytes) -> Rgb:
    picture = decode(encoded)
    if picture.alpha is None:
        return picture.rgb
    opaque = picture.alpha[..., None] / 255
    return np.rint(picture.rgb * opaque + 255 * (1 - opaque)).astype(np.uint8)


def _compare(folder: Path, source: Rgb, picture: Rgb) -> None:
    if picture.shape == source.shape:
        difference = np.abs(picture.astype(np.int16) - source) * DIFFERENCE_GAIN
        (folder / "difference.png").write_bytes(encode(difference.clip(0, 255).astype(np.uint8), "png"))
    shown = thumbnail(picture, max(source.shape[:2]))
    height = max(len(source), len(shown))
    gap = np.full((height, 8, 3), 255, np.uint8)
    pair = np.hstack([_as_high(source, height), gap, _as_high(shown, height)])
    (folder / "before-after.png").write_bytes(encode(pair, "png"))


def _as_high(rgb: Rgb, height: int) -> Rgb:
    return np.pad(rgb, ((0, height - len(rgb)), (0, 0), (0, 0)), constant_values=255)


def text_of(facts: dict[str, Any], folder: Path) -> str:
    """The outcome in words, with the command that does the same to a catalogue."""
    variants = facts["variants"]
    again = f"the same for a catalogue: packshot render CATALOGUE --recipe {folder}/recipe.yaml --output OUTPUT"
    if facts["status"] != "ok":
        reason = REASONS[facts["reason"]]
        return "\n".join(
            [
                f"{facts['status']}: {reason.sentence} {reason.next_step}",
                *([facts["detail"]] if facts["detail"] else []),
                *(f"{folder}/{one['file']}: {REASONS[one['reason']].sentence}" for one in variants),
                *([] if facts["status"] == FAILED else [again]),
            ]
        )
    kept = [one for one in variants if one["kept"]]
    best = next(one for one in variants if one["variant"] == facts["best"])
    rank = f", the best of {len(variants)}" if len(variants) > 1 else ""
    difference = f", difference.png ({DIFFERENCE_GAIN} times)" if (folder / "difference.png").is_file() else ""
    return "\n".join(
        [
            f"look at {folder}/before-after.png: your picture, and beside it {best['file']}{rank}",
            f"{len(kept)} of {len(variants)} variants kept; pixels changed outside the mask, measured on the written "
            f"files: {sum(one['changed_outside'] for one in kept)}",
            f"also in {folder}/: variant-N, mask.png (white may change){difference}",
            again,
        ]
    )
