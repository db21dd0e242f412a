"""What a user asks for: a YAML recipe -> frozen, strict settings with units and defaults.

One section a node of the graph, beside `catalogue` (which column is what) and `prompts` (templates over columns, filled
in by `catalogue.rows`; no stage sees a template). A section is all that its stage receives.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipelines.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"
DEFAULT_NEGATIVE_PROMPT = "blurry, distorted, deformed, low quality, text, watermark"


class Settings(BaseModel):
    """Frozen; an unknown key is an error, so a slip of typing cannot pass as a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Checkpoint(Settings):
    """A model's weights, pinned: data, not code.

    In YAML one string will do: `embedded:detector`, `org/model@<40 hex digits>`, or `path#sha256=<64 hex digits>`.
    """

    uri: str = Field(description="`embedded:NAME`, a hub id `org/model`, or the path of a folder or file of weights.")
    revision: str | None = Field(None, description="A hub id's commit: 40 hex digits. A branch could move under a run.")
    sha256: str | None = Field(None, description="The hash that a path's weights must have; 64 hex digits.")

    @property
    def is_embedded(self) -> bool:
        """Whether these weights ship with the package and know the sample world alone."""
        return self.uri.startswith("embedded:")

    @model_validator(mode="after")
    def _pinned(self) -> Checkpoint:
        if self.revision is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"`revision` is {self.revision!r}, which may be the name of a branch and can move under a run; "
                f"give the 40-digit hash of one of {self.uri!r}'s commits"
            )
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"`sha256` is {self.sha256!r}; expected 64 hex digits")
        return self


def _checkpoint(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if "#sha256=" in given:
        uri, _, digest = given.partition("#sha256=")
        return {"uri": uri, "sha256": digest}
    uri, at, revision = given.partition("@")
    return {"uri": uri, "revision": revision} if at else {"uri": given}


AnyCheckpoint = Annotated[Checkpoint, BeforeValidator(_checkpoint)]


class ModelSettings(Settings):
    """What every stage with a network has: which weights, and how it is called (both are in the node's key)."""

    checkpoint: AnyCheckpoint = Field(description="The weights; filled in from `models` where that names a set.")
    call_size: int = Field(4, ge=1, le=64, description="Samples a network call; the last call is padded to it.")
    threads: int = Field(
        1,
        ge=1,
        le=64,
        description="CPU threads a network call; another number may change last bits. One each in several processes "
        "makes more pictures than several in one; more only shorten a single request.",
    )


class CatalogueSettings(Settings):
    """Which column of the product table is what; a bare S3 prefix or folder of pictures needs none of it."""

    key: str = Field("sku", description="Column that names an item; unique. For a bare prefix the key is the path.")
    image: str = Field("image", description="Column with the picture: a URI, or a path relative to the table.")
    mask: str | None = Field(
        None, description="Column with a given mask (white is repainted); null where there is none."
    )
    references: str | None = Field(None, description="Column with reference pictures: a list, or one path.")


class PromptSettings(Settings):
    """The words, as templates over the table's columns: `a {colour} {category}`."""

    find: str = Field("{category}", description="What to look for in the picture.")
    paint: tuple[str, ...] = Field(min_length=1, description="What to paint; variants take the prompts in turn.")
    negative: str = Field(DEFAULT_NEGATIVE_PROMPT, description="What the painter keeps away from.")

    @field_validator("paint", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


class ReadSettings(Settings):
    """Limits of what is fetched; they enter no key."""

    max_bytes: int = Field(50_000_000, gt=0, description="Larger files are failed rows. Bytes.")
    max_pixels: int = Field(
        50_000_000, gt=0, description="Larger pictures are failed rows, told before decoding. Pixels."
    )


class DetectSettings(ModelSettings):
    """Which boxes count as found."""

    min_score: float = Field(0.35, ge=0, le=1, description="Boxes below this confidence are dropped.")
    nms_iou: float = Field(0.5, ge=0, le=1, description="Of two boxes that overlap more, the better one stays. IoU.")
    max_area: float = Field(
        0.9, gt=0, le=1, description="Larger boxes are refused: most answer nothing. Share of picture."
    )


class SegmentSettings(ModelSettings):
    """How a box becomes a mask."""


class MaskSettings(Settings):
    """Where pixels may change, what is denoised, and which crops the painter sees."""

    instances: Literal["highest_score", "largest", "all"] = Field(
        "highest_score", description="Which boxes to repaint."
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
    max_area: float = Field(0.9, gt=0, le=1, description="A larger mask is refused. Share of the picture.")
    crop_px: int = Field(
        512, ge=64, le=2048, multiple_of=8, description="Side of the painter's crops; from `models`. Pixels."
    )


class PaintSettings(ModelSettings):
    """How a crop is repainted."""

    task: Literal["replace"] = Field("replace", description="What happens to the product.")
    variants: int = Field(4, ge=1, le=64, description="Candidate pictures an item.")
    sampler: Literal["ddim", "euler", "euler_a", "heun", "dpm++_2m", "dpm++_2m_sde", "unipc", "lcm"] = Field(
        "ddim", description="The diffusion sampler, by the name people know."
    )
    steps: int = Field(20, ge=1, le=200, description="Denoising steps; time grows in proportion.")
    guidance: float = Field(
        7.5, ge=0, le=30, description="Classifier-free guidance; 1 and below is off, higher is more literal."
    )
    strength: float = Field(1.0, gt=0, le=1, description="Share of the noise that is put in; 1 forgets what was there.")
    seed: int = Field(0, ge=0, lt=2**63, description="Another number gives other noise to every item.")
    seed_by: str | None = Field(
        None, description="Column whose value replaces the picture's hash: views of one SKU share noise."
    )
    seeds: tuple[int, ...] = Field((), description="The variants' seeds themselves, in place of derived ones.")

    @model_validator(mode="after")
    def _a_seed_a_variant(self) -> PaintSettings:
        if self.seeds and len(self.seeds) != self.variants:
            raise ValueError(
                f"`seeds` lists {len(self.seeds)} seeds for {self.variants} variants; give one each or none"
            )
        return self


class ComposeSettings(Settings):
    """How a painted crop joins its surroundings."""

    colour_fit: bool = Field(True, description="Fit gain and offset on the ring outside the mask before pasting.")
    ring_px: int = Field(12, ge=1, le=128, description="Width of that ring. Pixels of the crop.")
    feather_px: float = Field(2.0, ge=0, le=64, description="Inward feather of the paste. Pixels of the crop.")


class ScoreSettings(ModelSettings):
    """Which encoder measures likeness; raw numbers only."""


class JudgeSettings(Settings):
    """Which variants are kept; cheap to change: no model is called again."""

    min_text_similarity: float = Field(
        0.2, ge=-1, le=1, description="Cosine of prompt and product; depends on the encoder."
    )
    min_reference_similarity: float = Field(
        -1.0, ge=-1, le=1, description="Cosine of the nearest reference and product."
    )
    max_ring_error: float = Field(
        40.0, ge=0, le=255, description="Mean difference in the ring outside, after the fit. Levels."
    )
    keep_best: int = Field(1, ge=1, le=64, description="At most so many variants an item are kept.")


class DeliverSettings(Settings):
    """The form of the pictures that leave."""

    format: Literal["png", "webp", "jpeg"] = Field(
        "png", description="PNG and WebP are lossless; JPEG needs `exact: false`."
    )
    exact: bool = Field(
        True, description="Outside the mask every pixel is the source's, measured on the delivered file."
    )
    feather_px: float = Field(
        4.0, ge=0, le=256, description="Inward feather of the paste into the picture. Its pixels."
    )

    @model_validator(mode="after")
    def _jpeg_is_not_exact(self) -> DeliverSettings:
        if self.exact and self.format == "jpeg":
            raise ValueError("`format: jpeg` changes every pixel a little; say `exact: false`, or take png or webp")
        return self


MODEL_SETS: dict[str, dict[str, dict[str, Any]]] = {
    "embedded": {
        "detect": {"checkpoint": "embedded:detector", "call_size": 4, "min_score": 0.38},
        "segment": {"checkpoint": "embedded:segmenter", "call_size": 4},
        "mask": {"crop_px": 256},
        "paint": {"checkpoint": "embedded:painter", "call_size": 4, "sampler": "unipc", "steps": 8, "guidance": 3.0},
        "score": {"checkpoint": "embedded:encoder", "call_size": 8},
    },
    "own": {},
}
"""What a set of models fills in where a recipe is silent; full-size sets join when their weights have been tried."""


class Recipe(Settings):
    """What to do to every item of a catalogue."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="A short name, for the manifest and the report.")
    models: Literal["embedded", "own"] = Field(
        description="`embedded`: the small models that ship along and know the sample world alone; "
        "`own`: each section names its checkpoint."
    )
    catalogue: CatalogueSettings = CatalogueSettings()
    prompts: PromptSettings
    read: ReadSettings = ReadSettings()
    detect: DetectSettings
    segment: SegmentSettings
    mask: MaskSettings
    paint: PaintSettings
    compose: ComposeSettings = ComposeSettings()
    score: ScoreSettings
    judge: JudgeSettings = JudgeSettings()
    deliver: DeliverSettings = DeliverSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_models(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        filled = dict(given)
        for section, defaults in MODEL_SETS.get(str(given.get("models")), {}).items():
            if isinstance(filled.get(section, {}), Mapping):
                filled[section] = {**defaults, **(filled.get(section) or {})}
        for section in ("detect", "segment", "mask", "paint", "score"):
            filled.setdefault(section, {})
        return filled

    def checkpoints(self) -> dict[str, Checkpoint]:
        """The checkpoint of every node that has one, in the graph's order."""
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section.checkpoint for name, section in sections.items() if isinstance(section, ModelSettings)}

    def uses_embedded(self) -> bool:
        """Whether any model knows the sample world alone."""
        return any(checkpoint.is_embedded for checkpoint in self.checkpoints().values())

    def needed_columns(self) -> dict[str, list[str]]:
        """The table's columns that the recipe names, each with the settings that name it."""
        needed: dict[str, list[str]] = {}
        for setting, column in self._named_columns():
            needed.setdefault(column, []).append(setting)
        return needed

    def _named_columns(self) -> Iterator[tuple[str, str]]:
        for setting, template in [
            ("prompts.find", self.prompts.find),
            *(("prompts.paint", template) for template in self.prompts.paint),
            ("prompts.negative", self.prompts.negative),
        ]:
            yield from ((setting, column) for column in template_columns(template))
        if self.paint.seed_by:
            yield "paint.seed_by", self.paint.seed_by


def template_columns(template: str) -> list[str]:
    """The columns that a template names, in order: `a {colour} {category}` -> colour, category.

    Raises:
        ConfigError: the braces do not match, or hold more than a column's name.
    """
    try:
        fields = [
            (name, spec, conversion)
            for _, name, spec, conversion in string.Formatter().parse(template)
            if name is not None
        ]
    except ValueError as error:
        raise ConfigError(f"the template {template!r} has unmatched braces ({error}); write `{{column}}`") from error
    for name, spec, conversion in fields:
        if not name or spec or conversion or not re.fullmatch(r"\w[\w -]*", name):
            raise ConfigError(
                f"the template {template!r} has `{{{name}}}`; expected the bare name of a column in braces"
            )
    return [name for name, _, _ in fields]


def parse(given: Mapping[str, Any]) -> Recipe:
    """Check a recipe that was read already, from YAML or from a request's JSON.

    Raises:
        ConfigError: every problem at once, each with the setting's place, what was wrong, and the nearest known key.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"a recipe is a mapping of sections; this is a {type(given).__name__}")
    try:
        recipe = Recipe.model_validate(given)
    except ValidationError as error:
        raise ConfigError("\n".join(_plain(problem, given) for problem in error.errors())) from None
    recipe.needed_columns()  # so that a bad template is told now
    return recipe


def load(name_or_path: str) -> Recipe:
    """A recipe from a YAML file, or a ready one by its name (`replace`).

    Raises:
        ConfigError: no such file or name, not YAML, or settings that cannot be.
    """
    ready = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    path = RECIPES / f"{name_or_path}.yaml" if name_or_path in ready else Path(name_or_path)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_path, ready, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; ready recipes: {', '.join(ready)}"
        raise ConfigError(f"there is no recipe file {name_or_path!r}, nor a ready recipe of that name{hint}")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    try:
        return parse(given)
    except ConfigError as error:
        raise ConfigError(f"{path}:\n{error}") from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, with every setting that was given or filled in from the model set."""
    return str(
        yaml.safe_dump(
            recipe.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True, width=100
        )
    )


def _plain(problem: Any, given: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return f"`{place}` is not a setting; {hint}"
    if problem["type"] == "missing":
        if place.endswith("checkpoint"):
            return f"`{place}` is missing; `models: own` needs the checkpoint of every model"
        return f"`{place}` is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return (
        f"`{place}` is {problem['input']!r}: {message}"
        if not isinstance(problem["input"], Mapping)
        else f"`{place}`: {message}"
    )


def _known_keys(place: tuple[Any, ...]) -> list[str]:
    settings: Any = Recipe
    for part in place:
        field = settings.model_fields.get(part) if hasattr(settings, "model_fields") else None
        settings = field.annotation if field is not None else None
    return list(settings.model_fields) if hasattr(settings, "model_fields") else []
