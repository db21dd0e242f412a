"""From a finished row to what the client reads."""

from __future__ import annotations

import base64
from importlib.metadata import version

from pipelines.executors.words import warning
from pipelines.recipe import Recipe
from pipelines.rows import FAILED, REASONS, Row, as_seen_by, in_step
from serve.errors import Refused
from serve.schemas import Answer, ItemAnswer, MaskRle, OutsideProof, Scores, VariantAnswer
from serve.served import Served

VERSION = version("packshot")
SAMPLE_WORLD = (
    "These pictures come from the small embedded models, which know the drawn sample catalogue alone; "
    "a server with other checkpoints renders photographs."
)

IN_THE_FORM = {
    "missing_value": "Send a value for it in `columns`, or words of your own.",
    "reference_needed": "Send a picture of the product as `reference`.",
}
"""What to do about a reason, where `REASONS` speaks of a table that a client does not have."""


def answer(row: Row, recipe: Recipe, served: Served) -> Answer:
    """What became of a picture.

    Raises:
        Refused: the row failed: 422 with the row's reason for a picture that cannot be used, 500 for a bug.
    """
    if row["status"] == FAILED:
        raise _failed(row)
    warnings = _warnings(row, recipe)
    row = as_seen_by(row, len(recipe.chain()))
    reason = REASONS[row["reason"]] if row["reason"] else None
    variants = _variants(row, recipe)
    return Answer(
        status=row["status"],
        reason=row["reason"],
        sentence=reason.sentence if reason else None,
        next_step=reason.next_step if reason else None,
        node=row["node"],
        item=_item(row),
        variants=variants,
        proof=OutsideProof(
            source_sha256=row.get("source_sha256"),
            exactness=row.get("exactness") or [None] * len(variants),
            changed_outside=row.get("changed_outside") or [None] * len(variants),
        ),
        recipe=recipe.name,
        version=VERSION,
        checkpoints=served.weights(recipe),
        seconds=dict(row["seconds"]),
        world="sample" if recipe.uses_embedded() else None,
        warnings=warnings,
    )


def _failed(row: Row) -> Refused:
    reason = REASONS[row["reason"]]
    if row["reason"] == "unexpected":  # its detail is a traceback, which is the log's and not the client's
        where = f"It happened in the step {row['node']!r}."
        return Refused(500, "unexpected", f"{reason.sentence} {where}", "Look at the server's log; please report it.")
    message = f"{reason.sentence.removesuffix('.')}: {row['detail']}" if row["detail"] else reason.sentence
    return Refused(422, row["reason"], message, IN_THE_FORM.get(row["reason"], reason.next_step))


def _item(row: Row) -> ItemAnswer:
    mask = row.get("changed_mask_rle") or row.get("allow_mask_rle")  # of all steps; the other where there is no first
    return ItemAnswer(
        key=row["item_key"],
        size_wh=row.get("size_wh"),
        boxes_xyxy=row.get("boxes_xyxy") or [],
        box_scores=row.get("box_scores") or [],
        box_labels=row.get("box_labels") or [],
        mask=mask and MaskRle(size=mask["size"], counts=mask["counts"]),
    )


def _variants(row: Row, recipe: Recipe) -> list[VariantAnswer]:
    kept = row.get("variant_kept") or []
    files = row.get("image_files") or [None] * len(kept)
    digests = row.get("image_sha256s") or [None] * len(kept)
    formats = row.get("image_formats") or [None] * len(kept)
    return [
        VariantAnswer(
            kept=kept[variant],
            reason=row["variant_reasons"][variant],
            sentence=_sentence(row["variant_reasons"][variant]),
            seed=row["variant_seeds"][variant],
            prompt=row["paint_prompts"][variant],
            scores=Scores(**row["variant_scores"][variant]),
            sha256=digests[variant],
            media_type=f"image/{formats[variant]}" if files[variant] else None,
            image=_base64(files[variant]),
        )
        for variant in range(len(kept))
    ]


def _sentence(reason: str | None) -> str | None:
    return REASONS[reason].sentence if reason else None


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _warnings(row: Row, recipe: Recipe) -> list[str]:
    if not recipe.uses_embedded():
        return []
    steps = range(1, len(recipe.chain()) + 1)
    find = [row[in_step("find_prompt", step)] for step in steps]
    paint = [prompt for step in steps for prompt in row[in_step("paint_prompts", step)]]
    told = warning(recipe, find, paint)
    return [SAMPLE_WORLD, *([f"{told[0].upper()}{told[1:]}."] if told else [])]
