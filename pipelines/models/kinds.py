"""What a checkpoint is, by its description or the names of its weights, and which kinds each role opens.

Looks at JSON, at the header of a safetensors file, and at the bytes of a pickle's list of names; runs none of it, and
loads no torch.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, InfrastructureError

GROUNDING_DINO, SAM, STABLE_DIFFUSION, CLIP, LORA = "Grounding DINO", "SAM", "Stable Diffusion", "CLIP", "LoRA"
ROLES: dict[str, tuple[str, str]] = {
    "detector": (
        GROUNDING_DINO,
        "Grounding DINO: a transformers folder of type grounding-dino or mm-grounding-dino, or an official "
        "groundingdino_*.pth with its config .py beside it",
    ),
    "segmenter": (
        SAM,
        "the first Segment Anything: an official sam_vit_h, sam_vit_l or sam_vit_b .pth, or a folder that "
        "`packshot train` wrote",
    ),
    "painter": (STABLE_DIFFUSION, "a diffusers folder of Stable Diffusion 1.5 or 2, for inpainting or plain"),
    "encoder": (CLIP, "CLIP: a transformers folder of type clip"),
    "lora": (LORA, "a `.safetensors` file of a LoRA"),
}
"""What each role is, and in words what it opens."""
MODEL_TYPES = {
    "grounding-dino": GROUNDING_DINO,
    "mm-grounding-dino": GROUNDING_DINO,
    "clip": CLIP,
    "sam": "SAM in the layout of transformers",
    "sam2": "SAM 2",
    "sam2_video": "SAM 2",
    "sam3": "SAM 3",
    "sam_hq": "SAM-HQ",
    "dinov2": "DINOv2",
    "dinov3_vit": "DINOv3",
    "siglip": "SigLIP",
    "siglip2": "SigLIP 2",
    "owlv2": "OWLv2",
}
PIPELINES = {
    "StableDiffusionInpaintPipeline": STABLE_DIFFUSION,
    "StableDiffusionPipeline": STABLE_DIFFUSION,
    "StableDiffusionImg2ImgPipeline": STABLE_DIFFUSION,
    "StableDiffusionXL": "Stable Diffusion XL",
    "StableDiffusion3": "Stable Diffusion 3",
    "Flux": "FLUX",
    "QwenImage": "Qwen-Image",
}
"""By how the name of the pipeline begins, the first that fits; `_class_name` of `model_index.json`."""
SINGLE_FILE = "Stable Diffusion in one file"
BY_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (LORA, ("lora",)),
    (SINGLE_FILE, ("model.diffusion_model.",)),
    ("FLUX in one file", ("double_blocks.",)),
    ("SAM 2", ("sam_mask_decoder.",)),
    ("MobileSAM", ("image_encoder.patch_embed.seq", "mask_decoder.")),
    ("SAM-HQ", ("mask_decoder.hf_token",)),
    (SAM, ("image_encoder.neck", "mask_decoder.")),
    (GROUNDING_DINO, ("feat_map.", "transformer.level_embed")),
)
"""The first of which every text is in a name of the weights."""
CONVERT = (
    '; make a folder of it: python -c "from diffusers import StableDiffusionInpaintPipeline as P; '
    "P.from_single_file('{path}').save_pretrained('FOLDER', safe_serialization=True)\""
)
MOST_HEADER_BYTES = 100_000_000


def check_kind(role: str, path: Path) -> None:
    """Let a role have only what it opens; a pickle whose kind cannot be told is left to the adapter.

    Raises:
        ConfigError: it is something else; says what it is and what the role opens.
        InfrastructureError: it is no model, or not all of one.
    """
    wanted, opens = ROLES[role]
    kind = kind_of(path)
    is_right = kind == wanted and (path.is_dir() or role not in ("painter", "encoder"))
    if is_right or (kind is None and path.is_file() and role in ("detector", "segmenter", "lora")):
        return
    if kind is None:
        there = sorted(one.name for one in path.glob("*")) if path.is_dir() else []
        holds = f"holds {', '.join(there[:8])}" if there else "is empty" if path.is_dir() else "is one file"
        raise InfrastructureError(
            f"{path} {holds}, and is no model that can be told by its config.json or model_index.json; "
            f"as {role}, Packshot opens {opens}"
        )
    more = CONVERT.format(path=path) if role == "painter" and kind == SINGLE_FILE else ""
    raise ConfigError(f"{path} is {kind}; as {role}, Packshot opens {opens}{more}")


def kind_of(path: Path) -> str | None:
    """What a file or folder is, in words; None if it cannot be told."""
    if path.is_file():
        return _by_names(_names_in(path))
    if (path / "model_index.json").is_file():
        name = str(described(path / "model_index.json").get("_class_name"))
        known = (kind for begins, kind in PIPELINES.items() if name == begins or _continues(name, begins))
        return next(known, f"a diffusers pipeline {name}")
    if (path / "config.json").is_file():
        return _by_config(described(path / "config.json"))
    return None


def described(path: Path) -> dict[str, Any]:
    """What a JSON file of a model says.

    Raises:
        InfrastructureError: it is not JSON.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InfrastructureError(f"{path} is not JSON ({error}); fetch it again") from error
    return found


def _continues(name: str, begins: str) -> bool:
    """`FluxFillPipeline` continues `Flux`; `StableDiffusionPipeline` is whole."""
    return not begins.endswith("Pipeline") and name.startswith(begins)


def _by_config(config: dict[str, Any]) -> str | None:
    if {"image_encoder", "prompt_encoder", "mask_decoder"} <= config.keys():
        return SAM
    named = config.get("model_type") or next(iter(config.get("architectures") or ()), None)
    return MODEL_TYPES.get(named, f"a model of type {named!r}") if named else None


def _by_names(names: bytes) -> str | None:
    for kind, texts in BY_NAMES:
        if all(text.encode() in names for text in texts):
            return kind
    return None


def _names_in(path: Path) -> bytes:
    """The bytes in which a file's weights are named: a safetensors' header, or a pickle without its tensors."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            return file.read(min(int.from_bytes(file.read(8), "little"), MOST_HEADER_BYTES))
    if not zipfile.is_zipfile(path):
        return b""
    with zipfile.ZipFile(path) as archive:
        listed = [one for one in archive.infolist() if one.filename.endswith("data.pkl")]
        return archive.read(listed[0]) if listed and listed[0].file_size < MOST_HEADER_BYTES else b""
