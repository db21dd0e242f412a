"""One picture, for people who try before they read: the same graph, in this process, into one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import catalogue, render
from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.pixels.images import decode, encode
from pipelines.pixels.masks import from_rle
from pipelines.recipe import Recipe
from pipelines.rows import REASONS

DIFFERENCE_GAIN = 4  # so that a change of a few levels can be seen


def try_picture(photo: Path, recipe: Recipe, folder: Path) -> tuple[dict[str, Any], str]:
    """Render one picture and write what a person wants to see of it.

    Writes `mask.png` (white may change), `variant-N.png`, `before-after.png` and `difference.png` of the best variant,
    and `recipe.yaml`, which does the same to a catalogue.

    Returns:
        The facts (status, reason, variants, pixels changed outside) and the text that says them.

    Raises:
        ConfigError: there is no such file.
    """
    if not photo.is_file():
        raise ConfigError(f"there is no picture {str(photo)!r}; give the path of a JPEG, PNG, WebP or TIFF file")
    key = recipe.catalogue.key
    table = pa.table({key: [photo.name], "given_image_bytes": pa.array([photo.read_bytes()], pa.large_binary())})
    row = render(catalogue.rows(recipe, table, None), recipe).to_pylist()[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipes.dump(recipe), encoding="utf-8")
    facts = _facts(row)
    if row["allow_mask_rle"] is not None:
        _write_pictures(folder, decode(photo.read_bytes()).rgb, row, facts)
    return facts, _text(facts, folder)


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    scores, kept = row["variant_scores"] or [], row["variant_kept"] or []
    return {
        "status": row["status"],
        "reason": row["reason"],
        "detail": row["detail"],
        "boxes_xyxy": row["boxes_xyxy"],
        "box_scores": row["box_scores"],
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
        ],
    }


def _write_pictures(folder: Path, source: NDArray[np.uint8], row: dict[str, Any], facts: dict[str, Any]) -> None:
    mask = from_rle(row["allow_mask_rle"])
    (folder / "mask.png").write_bytes(encode(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), "png"))
    kept = [variant for variant in facts["variants"] if variant["kept"]]
    for variant in kept:
        number = variant["variant"]
        (folder / f"variant-{number}.{row['image_formats'][number]}").write_bytes(row["image_files"][number])
    if kept:
        best = max(kept, key=lambda variant: variant["text_similarity"] or 0.0)
        facts["best"] = best["variant"]
        picture = decode(row["image_files"][best["variant"]]).rgb
        gap = np.full((len(source), 8, 3), 255, np.uint8)
        (folder / "before-after.png").write_bytes(encode(np.hstack([source, gap, picture]), "png"))
        difference = np.abs(picture.astype(np.int16) - source) * DIFFERENCE_GAIN
        (folder / "difference.png").write_bytes(encode(difference.clip(0, 255).astype(np.uint8), "png"))


def _text(facts: dict[str, Any], folder: Path) -> str:
    if facts["status"] != "ok":
        reason = REASONS[facts["reason"]]
        said = [f"{facts['status']}: {reason.sentence} {reason.next_step}"]
        return "\n".join([*said, *([facts["detail"]] if facts["detail"] else []), f"{folder}/recipe.yaml"])
    kept = [variant for variant in facts["variants"] if variant["kept"]]
    changed = sum(variant["changed_outside"] for variant in kept)
    return "\n".join(
        [
            f"{len(kept)} of {len(facts['variants'])} variants kept; the best is variant-{facts['best']}.png",
            f"pixels changed outside the mask, measured on the written files: {changed}",
            f"{folder}/: mask.png, before-after.png, difference.png ({DIFFERENCE_GAIN} times), variant-N.png",
            f"the same for a catalogue: packshot render CATALOGUE --recipe {folder}/recipe.yaml --output OUTPUT",
        ]
    )
