"""The sections of a recipe: frozen, strict settings with units and defaults; a stage receives one of them."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from pipelines.strict import AnyCheckpoint, Checkpoint, Settings
from pipelines.tasks import DEFAULT, TASKS, AnyLayout, TaskName

DEFAULT_NEGATIVE_PROMPT = "blurry, distorted, deformed, low quality, text, watermark"
On = Literal["source", "previous_step"]


class ModelSettings(Settings):
    """What every stage with a network has: which weights, and how it is called (both are in the node's key)."""

    role: ClassVar[str]
    checkpoint: AnyCheckpoint = Field(description="The weights; filled in from `models` where that names a set.")
    call_size: int = Field(
        1,
        ge=1,
        le=64,
        description="Samples a network call; the last call is padded to it, so that one picture costs as many. More "
        "fill a GPU; on a CPU they win little. Another number changes last bits, and memory in proportion.",
    )
    threads: int = Field(
        1,
        ge=1,
        le=64,
        description="CPU threads a network call; another number may change last bits. One each in several processes "
        "makes more pictures than several in one; more only shorten a single request.",
    )

    def weights(self) -> dict[str, Checkpoint]:
        """The checkpoint, as the network of this section's `role`."""
        return {self.role: self.checkpoint}


class CatalogueSettings(Settings):
    """Which column of the product table is what; a bare S3 prefix or folder of pictures needs none of it."""

    key: str = Field("sku", description="Column that names an item; unique. For a bare prefix the key is the path.")
    image: str = Field("image", description="Column with the picture: a URI, or a path relative to the table.")
    mask: str | None = Field(
        None, description="Column with a given mask (white is repainted); null where there is none."
    )
    references: str | None = Field(None, description="Column with reference pictures: a list, or one path.")
    scene: str | None = Field(None, description="Column with the picture that a product is placed in; for `place`.")
    front: str | None = Field(
        None, description="Column with a mask of the scene: white lies before the product, such as an arm; for `place`."
    )
    allow: tuple[str, ...] = Field(
        (),
        description="Folders, `s3://bucket/prefix` or absolute, in which pictures may lie beside the catalogue's own.",
    )
    keep_columns: tuple[str, ...] = Field(
        (), description="Columns that the manifest has beside those which a setting or a prompt names."
    )

    @field_validator("allow")
    @classmethod
    def _are_folders(cls, allowed: tuple[str, ...]) -> tuple[str, ...]:
        for folder in allowed:
            if not re.match(r"s3://[^/]|/", folder) or ".." in folder.split("/"):
                raise ValueError(f"{folder!r} is no place; expected `s3://bucket`, `s3://bucket/prefix` or `/folder`")
        return allowed


class PromptSettings(Settings):
    """The words, as templates over the table's columns: `a {colour} {category}`."""

    find: str = Field("{category}", description="What to look for in the picture.")
    paint: tuple[str, ...] = Field(("",), min_length=1, description="What to paint; variants take the prompts in turn.")
    colour: str | None = Field(None, description="The new colour, named or `#rrggbb`; for `recolour`.")
    negative: str = Field(DEFAULT_NEGATIVE_PROMPT, description="What the painter keeps away from.")

    @field_validator("paint", mode="before", json_schema_input_type=str | tuple[str, ...])
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


class ReadSettings(Settings):
    """Limits of what is fetched; they enter no key."""

    max_bytes: int = Field(50_000_000, gt=0, description="Larger files are failed rows. Bytes.")
    max_pixels: int = Field(
        50_000_000, gt=0, description="Larger pictures are failed rows, told before decoding. Pixels."
    )
    max_references: int = Field(32, gt=0, description="An item with more reference pictures is a failed row. Pictures.")
    max_reference_bytes: int = Field(
        100_000_000, gt=0, description="An item whose references are larger together is a failed row. Bytes."
    )


def _is_null(value: Any) -> bool:
    return value is None


class DetectSettings(ModelSettings):
    """Which boxes count as found."""

    role = "detector"
    # Left out of keys where it is null: what was found before it was a setting need not be found again.
    sizing: Literal["square", "as_trained"] | None = Field(
        None,
        exclude_if=_is_null,
        description="How a picture meets the network: `square`, fitted into one square, every picture in one shape; "
        "`as_trained`, as the checkpoint's own image processor says, which for the published Grounding DINO is the "
        "picture's own shape, its shortest side 800 and its longest at most 1333 pixels. Null is `square`; `models: "
        "own` fills in `as_trained`.",
    )
    side_px: int | None = Field(
        None,
        ge=32,
        le=2048,
        exclude_if=_is_null,
        description="The square's side, or the shortest side of a picture in its own shape, whose longest grows along; "
        "null: the checkpoint's own. Larger finds smaller things for more time and memory. Pixels.",
    )
    min_score: float = Field(0.35, ge=0, le=1, description="Boxes below this confidence are dropped.")
    nms_iou: float = Field(0.5, ge=0, le=1, description="Of two boxes that overlap more, the better one stays. IoU.")
    max_area: float = Field(
        0.9, gt=0, le=1, description="Larger boxes are refused: most answer nothing. Share of picture."
    )
    on: On = Field(
        "source",
        description="Where a later step finds: in the source, or in the picture that the step before handed on.",
    )
    ambiguous_margin: float = Field(
        0.05, ge=0, le=1, description="Two boxes whose scores are closer than this are recorded as ambiguous."
    )


CropMargin = Annotated[float, Field(ge=0.3, le=10)] | None


class SegmentSettings(ModelSettings):
    """How a box becomes a mask."""

    role = "segmenter"
    on: On = Field(
        "source",
        description="Where a later step cuts: as `detect.on`, in the source, or in the picture that was handed on.",
    )
    # In node keys it keeps the name that it had at first, `room`, so that nothing is segmented again.
    crop_margin: CropMargin = Field(
        None,
        serialization_alias="room",
        description="Each box is segmented in a crop of its own, with this margin on each side: finer outlines of "
        "small products, for one more picture to encode a box; null: all boxes in the whole picture. Share of the "
        "box's longer side.",
    )
    detail: Literal["auto", "part", "whole"] = Field(
        "auto", description="Of SAM's readings of a box: the one it trusts most, the smallest, or the largest."
    )


class FindSettings(ModelSettings):
    """Finding among all that can be cut out, in the place of `detect` and `segment`. `checkpoint` is SAM's."""

    role = "segmenter"
    encoder: AnyCheckpoint = Field(description="CLIP's weights.")
    call_size: int = Field(64, ge=1, le=1024, description="Points of SAM's grid a network call.")
    encoder_call_size: int = Field(8, ge=1, le=64, description="Candidates a network call of CLIP.")
    by: Literal["clip", "reference"] = Field(
        "clip", description="What candidates are compared with: `prompts.find`, or the item's reference pictures."
    )
    on: On = Field(
        "source",
        description="Where a later step finds: in the source, or in the picture that the step before handed on.",
    )
    negatives: tuple[str, ...] = Field(
        (), description="What the product is not; one whose words the prompt has is left out. With `by: clip`."
    )
    points_per_side: int = Field(32, ge=1, le=128, description="Points of SAM's grid along each side of the picture.")
    crop_layers: int = Field(
        0, ge=0, le=2, description="1 looks at quarters of the picture, too, 2 at sixteenths: small things, more time."
    )
    min_predicted_iou: float = Field(0.88, ge=0, le=1, description="SAM's masks below this confidence are dropped.")
    min_stability: float = Field(0.95, ge=0, le=1, description="Masks that a small change of threshold moves go. IoU.")
    box_nms_iou: float = Field(
        0.7, ge=0, le=1, description="Of points whose masks' boxes overlap more, one stays. IoU."
    )
    box_rounds: int = Field(0, ge=0, le=4, description="How often each mask is cut again from the box round it.")
    # In node keys it keeps the name that it had at first, `room`, so that nothing is found again.
    crop_margin: CropMargin = Field(
        None,
        serialization_alias="room",
        description="Each kept mask is segmented again in a crop round its box, as by `segment.crop_margin`.",
    )
    min_speck: float = Field(
        0.3, ge=0, le=1, description="Smaller loose parts of a mask go; they are mostly not the same thing. Share."
    )
    max_hole: float = Field(0.01, ge=0, le=1, description="Smaller holes of a mask are filled. Share of the mask.")
    nms_iou: float = Field(0.8, ge=0, le=1, description="Of two masks that overlap more, one stays. IoU.")
    min_area: float = Field(0.002, gt=0, le=1, description="Smaller masks are no product. Share of the picture.")
    max_area: float = Field(0.9, gt=0, le=1, description="Larger masks are no product. Share of the picture.")
    keep: int = Field(5, ge=1, le=50, description="So many candidates are stored with their scores.")
    choose: Literal["best", "union"] = Field(
        "best", description="`union` puts one mask of all candidates within `union_margin` of the best before them."
    )
    union_margin: float = Field(
        0.05, ge=0, le=2, description="How far a united candidate's score may be below the best."
    )
    min_text_score: float = Field(
        0.2, ge=-1, le=1, description="Below it nothing is found by text; depends on the encoder, see `Find`."
    )
    min_reference_score: float = Field(
        0.7, ge=-1, le=1, description="Below it nothing is found by reference; depends on the encoder."
    )

    def weights(self) -> dict[str, Checkpoint]:
        """SAM's and CLIP's."""
        return {**super().weights(), "encoder": self.encoder}


class MaskSettings(Settings):
    """Where pixels may change, what is denoised, and which crops the painter sees."""

    layout: AnyLayout = Field(
        DEFAULT.layout(task=DEFAULT.name), description="What the task paints on; its `task` is `paint.task`."
    )
    instances: Literal["highest_score", "largest", "all", "per_instance"] = Field(
        "highest_score",
        description="Which boxes to repaint; `all` sees them in one crop, `per_instance` each in a crop of its own.",
    )
    invert: bool = Field(False, description="Repaint what lies outside the found or given mask.")
    close: float = Field(
        0.0, ge=0, le=0.2, description="Closing of gaps before holes are filled. Share of its diagonal."
    )
    keep_parts: int | None = Field(None, ge=1, description="Only so many of the largest loose parts stay.")
    shadow_margin: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Growth below and beside the lower half, for a shadow that the new product casts. Share of the "
        "mask's diagonal.",
    )
    band_px: int = Field(
        0,
        ge=0,
        le=512,
        description="Repaint only a band of this width along the mask's outline, half of it on either side; as a step "
        "at `paint.strength` 0.4 it joins what the step before painted. InvokeAI's edge is 16. Pixels; 0 is all.",
    )
    max_hole: float = Field(
        0.01, ge=0, le=1, description="Smaller holes are filled; a bag's handle stays open. Share of mask."
    )
    min_speck: float = Field(0.02, ge=0, le=1, description="Smaller loose parts go. Share of the largest part.")
    grow: float = Field(
        0.015, ge=0, le=0.5, description="Growth of the found mask: where pixels may change. Share of its diagonal."
    )
    denoise_grow: float = Field(
        0.015, ge=0, le=0.5, description="Further growth of what is denoised, never of what may change."
    )
    denoise_shape: Literal["outline", "box"] = Field(
        "outline",
        description="What is denoised: the mask, whose outline tells a painter what to paint, or the box round it, so "
        "that nothing tells what was there.",
    )
    max_area: float = Field(0.9, gt=0, le=1, description="A larger mask is refused. Share of the picture.")
    crop_px: int = Field(
        512, ge=64, le=2048, multiple_of=8, description="Side of the painter's crops; from `models`. Pixels."
    )


class Lora(Settings):
    """A LoRA file (Hu et al. 2021, arXiv:2106.09685), whose change is added to the painter's weights."""

    checkpoint: AnyCheckpoint = Field(
        description="A `.safetensors` file with its `#sha256=`, or a hub id at a commit that holds one such file."
    )
    weight: float = Field(1.0, ge=-4, le=4, description="How much of the change is added; 0 is none.")

    @model_validator(mode="after")
    def _pinned_safetensors(self) -> Lora:
        one = self.checkpoint
        if one.revision is None and not (one.sha256 and one.uri.endswith(".safetensors")):
            raise ValueError(
                f"the LoRA {one.uri!r} is not a pinned `.safetensors` file; expected PATH.safetensors#sha256= and what "
                "`sha256sum` says of the file, or a hub id at a commit: org/model@COMMIT"
            )
        return self


class PaintSettings(ModelSettings):
    """How a crop is repainted."""

    role = "painter"
    task: TaskName = Field(DEFAULT.name, description="What happens to the product.")
    variants: int = Field(4, ge=1, le=64, description="Candidate pictures an item.")
    sampler: Literal["ddim", "euler", "euler_a", "heun", "dpm++_2m", "dpm++_2m_sde", "dpm++_3m_sde", "unipc", "lcm"] = (
        Field("ddim", description="The diffusion sampler, by the name people know.")
    )
    spacing: Literal["default", "karras", "exponential", "sgm_uniform"] = Field(
        "default", description="How noise falls from step to step; `default` is the model's own way."
    )
    steps: int = Field(20, ge=1, le=200, description="Denoising steps; time grows in proportion.")
    guidance: float = Field(
        7.5, ge=0, le=30, description="Classifier-free guidance; 1 and below is off, higher is more literal."
    )
    strength: float = Field(1.0, gt=0, le=1, description="Share of the noise that is put in; 1 forgets what was there.")
    soft_denoise_px: int = Field(
        0, ge=0, le=256, description="Band inside the mask's edge that is repainted less and less. Pixels of the crop."
    )
    clip_skip: int = Field(
        0, ge=0, le=32, description="Last layers of the text model left out; A1111 counts from 1: its 2 is 1 here."
    )
    lora: tuple[Lora, ...] = Field((), description="LoRA files, added to the painter's weights.")
    seed: int = Field(0, ge=0, lt=2**63, description="Another number gives other noise to every item.")
    seed_by: str | None = Field(
        None, description="Column whose value replaces the picture's hash: views of one SKU share noise."
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (), description="The variants' seeds themselves, in place of derived ones."
    )

    def weights(self) -> dict[str, Checkpoint]:
        """The painter's, and those of its LoRAs as `lora1`, `lora2` ...; none where the task paints nothing."""
        if not TASKS[self.task].paints:
            return {}
        return {**super().weights(), **{f"lora{number}": one.checkpoint for number, one in enumerate(self.lora, 1)}}

    def added_loras(self) -> tuple[Lora, ...]:
        """The LoRAs that change the painter: those with a weight other than 0."""
        return tuple(one for one in self.lora if one.weight)

    @model_validator(mode="after")
    def _a_seed_a_variant(self) -> PaintSettings:
        if self.seeds and len(self.seeds) != self.variants:
            raise ValueError(
                f"`seeds` lists {len(self.seeds)} seeds for {self.variants} variants; give one each or none"
            )
        return self

    @model_validator(mode="after")
    def _a_spacing_that_the_sampler_has(self) -> PaintSettings:
        without = {
            "karras": ("ddim", "euler_a", "lcm"),
            "exponential": ("ddim", "euler_a", "lcm"),
            "sgm_uniform": ("lcm",),
        }
        if self.sampler in without.get(self.spacing, ()):
            raise ValueError(
                f"the sampler {self.sampler!r} has no spacing {self.spacing!r}; say `spacing: default`, "
                "or take another sampler, such as `euler` or `dpm++_2m`, which have them all"
            )
        return self


class ComposeSettings(Settings):
    """How a painted crop joins its surroundings."""

    colour_fit: bool = Field(True, description="Fit gain and offset on the ring outside the mask before pasting.")
    ring_px: int = Field(12, ge=1, le=128, description="Width of that ring. Pixels of the crop.")
    feather_px: float = Field(2.0, ge=0, le=64, description="Inward feather of the paste. Pixels of the crop.")


class ScoreSettings(ModelSettings):
    """Which encoder measures likeness; raw numbers only."""

    role = "encoder"
    likeness: bool = Field(
        True, description="Compare what was painted with prompt and references; off where it is not the product."
    )
    segmenter: AnyCheckpoint | None = Field(
        None,
        description="SAM's weights, to measure how far a product has grown into its new background. In the task "
        "`background` they are `segment`'s; null: not measured.",
    )

    def weights(self) -> dict[str, Checkpoint]:
        """The encoder's where likeness is measured, SAM's as `segmenter` where growth is."""
        return {
            **(super().weights() if self.likeness else {}),
            **({"segmenter": self.segmenter} if self.segmenter else {}),
        }


class JudgeSettings(Settings):
    """Which variants are kept; cheap to change: no model is called again. Every score has its threshold here."""

    # Left out of keys where it is the default: what was judged before it was a setting need not be judged again.
    keep: Literal["best", "all"] = Field(
        "best",
        exclude_if=lambda keep: keep == "best",
        description="`best`: the `keep_best` best of those variants that pass the thresholds; `all`: every variant, "
        "whatever it scored, for those who only measure; no threshold and no `keep_best` can be given beside it.",
    )
    min_text_similarity: float = Field(
        0.2, ge=-1, le=1, description="Cosine of prompt and product; depends on the encoder."
    )
    min_reference_similarity: float = Field(
        -1.0, ge=-1, le=1, description="Cosine of the nearest reference and product."
    )
    max_ring_error: float = Field(
        40.0, ge=0, le=255, description="Mean difference in the ring outside, after the fit. Levels."
    )
    max_expansion: float = Field(
        0.05,
        ge=0,
        description="Growth of a product into its new background; what was painted looks like more of it. Share of the "
        "product. Source of 5 %: a starting value, Eshratifar et al. 2024, arXiv:2404.10157, measure it and give none.",
    )
    keep_best: int = Field(1, ge=1, le=64, description="At most so many variants an item are kept.")

    @model_validator(mode="after")
    def _all_asks_nothing(self) -> JudgeSettings:
        if self.keep == "all" and (beside := sorted(self.model_fields_set - {"keep"})):
            raise ValueError(
                f"`keep: all` keeps every variant, whatever it scored; `{'`, `'.join(beside)}` would have no effect. "
                "Leave it out, or say `keep: best`"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_it_counts(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """With `keep: all`, that alone: the thresholds' defaults enter no key, and what is dumped can be read again."""
        settings: dict[str, Any] = dumped(self)
        return {"keep": "all"} if self.keep == "all" else settings


class DeliverSettings(Settings):
    """The form of the delivered pictures."""

    format: Literal["png", "webp", "jpeg"] = Field(
        "png",
        description="PNG and WebP are lossless. `jpeg` and exact: blocks outside the mask stay the source's; a PNG is "
        "delivered where the source's blocks cannot be kept.",
    )
    exact: bool = Field(
        True,
        description="Outside the mask every pixel is the source's (in a JPEG: every block), measured on the delivered "
        "file; `false` lets a JPEG change a little everywhere.",
    )
    # Left out of keys where it is the default: what was delivered before it was a setting need not be encoded again.
    quality: int = Field(
        95,
        ge=1,
        le=100,
        exclude_if=lambda quality: quality == 95,
        description="Of a `jpeg` that is not exact: higher looks better and takes more bytes. It has no effect on an "
        "exact JPEG, which is encoded with the quantisation tables of its source.",
    )
    feather_px: float = Field(
        4.0, ge=0, le=256, description="Inward feather of the paste into the picture. Its pixels."
    )
