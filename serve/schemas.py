"""The shape of every answer, for people, for programs and for `/docs`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from pipelines.scores import MEASURES


class Schema(BaseModel):
    """Frozen; what is made here is exactly what is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MaskRle(Schema):
    """A mask as COCO's compressed RLE, which `pycocotools.mask.decode` opens."""

    size: tuple[int, int] = Field(description="Height and width, pixels.")
    counts: str = Field(description="The runs, compressed as COCO does.")


class ItemAnswer(Schema):
    """The picture that came in, and what was found in it. Pixels of the upright picture."""

    key: str = Field(description="The value of the recipe's key column, or else the picture's sha256.")
    size_wh: tuple[int, int] | None = Field(description="Width and height, upright.")
    boxes_xyxy: list[tuple[float, float, float, float]] = Field(
        description="What matches the prompt, best first: left, top, right, bottom. Empty with a given mask."
    )
    box_scores: list[float] = Field(description="The boxes' confidence, 0 to 1.")
    box_labels: list[str] = Field(description="The phrases that the boxes match.")
    mask: MaskRle | None = Field(description="Where pixels were allowed to change; null if it did not come to a mask.")


class Scores(
    create_model(  # type: ignore[misc]  # the fields are those of the table of scores
        "Scores",
        __base__=Schema,
        **{one.name: (float | None, Field(description=one.description)) for one in MEASURES},
    )
):
    """Raw figures; those of the variant's worst region."""


class VariantAnswer(Schema):
    """One candidate picture."""

    kept: bool = Field(description="Whether the judge kept it.")
    reason: str | None = Field(description="Why it was not kept, as a word; null where kept.")
    sentence: str | None = Field(description="The same for people.")
    seed: int = Field(description="The seed of its noise: sent as `seed`, it gives the same pixels again.")
    prompt: str = Field(description="What was asked for.")
    scores: Scores
    sha256: str | None = Field(description="Of the picture's file; null where not kept.")
    media_type: str | None = Field(description="image/png unless the recipe says otherwise; null where not kept.")
    image: str | None = Field(description="The picture's file in base64; null where not kept.")


class OutsideProof(Schema):
    """What was measured on the files that were made."""

    source_sha256: str | None = Field(description="Of the picture that came in; null if it could not be read.")
    exactness: list[Literal["pixels", "blocks", "none"] | None] = Field(
        description="What is promised of everything outside the mask: every pixel, every JPEG block, or nothing; null "
        "where not kept."
    )
    changed_outside: list[int | None] = Field(
        description="Pixels outside the mask that differ from the source, a variant each, counted on the decoded file; "
        "null where not kept."
    )


class Weights(Schema):
    """The checkpoint that a node used."""

    node: str = Field(description="The step of the graph.")
    uri: str = Field(description="Which weights.")
    revision: str | None = Field(description="A hub id's commit.")
    sha256: str = Field(description="Over all files that the result depends on.")


class Answer(Schema):
    """What became of one picture. `rejected` is an answer too: nothing was found, or no variant was good enough."""

    status: Literal["ok", "rejected"]
    reason: str | None = Field(description="Why it was rejected, as a word.")
    sentence: str | None = Field(description="The same for people.")
    next_step: str | None = Field(description="What to do about it.")
    node: str | None = Field(description="The step of the graph at which it was rejected.")
    item: ItemAnswer
    variants: list[VariantAnswer] = Field(description="Every candidate; empty if none was painted.")
    proof: OutsideProof
    recipe: str = Field(description="The recipe's name.")
    version: str = Field(description="Packshot's.")
    checkpoints: list[Weights]
    seconds: dict[str, float] = Field(description="The picture's share of each step's time.")
    world: Literal["sample"] | None = Field(
        description="`sample`: the models are the small embedded ones, which know the drawn sample catalogue alone."
    )
    warnings: list[str] = Field(description="What to know before trusting the pictures.")


class Problem(Schema):
    """What was wrong."""

    code: str = Field(description="A word for programs.")
    message: str = Field(description="What was wrong, and what was expected.")
    hint: str = Field(description="What to do.")


class ErrorAnswer(Schema):
    """Every error has this shape."""

    error: Problem


class Health(Schema):
    """Whether the server can render now."""

    status: Literal["ready", "starting"]
    version: str = Field(description="Packshot's.")
    recipes: list[str] = Field(description="The ready recipes, by name; the first is taken where a request names none.")
    models: list[Weights] = Field(description="Every checkpoint that a request may use.")
