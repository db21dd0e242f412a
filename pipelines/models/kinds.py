"""The names of models that no adapter opens, so that an error can say what a checkpoint is; loads no torch."""

from __future__ import annotations

from pathlib import Path

from pipelines.models.files import model_type, pipeline_class, weight_names

MODEL_TYPES = {
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
    "StableDiffusionXL": "Stable Diffusion XL",
    "StableDiffusion3": "Stable Diffusion 3",
    "Flux": "FLUX",
    "QwenImage": "Qwen-Image",
}
"""By how the name of the pipeline begins, the first that fits."""
SINGLE_FILE = "Stable Diffusion in one file"
FILES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (SINGLE_FILE, ("model.diffusion_model.",)),
    ("FLUX in one file", ("double_blocks.",)),
    ("SAM 2", ("sam_mask_decoder.",)),
    ("MobileSAM", ("image_encoder.patch_embed.seq", "mask_decoder.")),
    ("SAM-HQ", ("mask_decoder.hf_token",)),
)
"""The first of which every text is in a name of the weights."""
CONVERT = (
    '; make a folder of it: python -c "from diffusers import StableDiffusionInpaintPipeline as P; '
    "P.from_single_file('{path}').save_pretrained('FOLDER', safe_serialization=True)\""
)


def kind_of(path: Path) -> str | None:
    """What a file or folder is that no adapter opens, in words; None if it cannot be told.

    Raises:
        InfrastructureError: its description is not JSON.
    """
    if path.is_file():
        names = weight_names(path)
        return next((kind for kind, texts in FILES if all(text.encode() in names for text in texts)), None)
    if (pipeline := pipeline_class(path)) is not None:
        known = (kind for begins, kind in PIPELINES.items() if pipeline.startswith(begins))
        return next(known, f"a diffusers pipeline {pipeline}")
    named = model_type(path)
    return MODEL_TYPES.get(named, f"a model of type {named!r}") if named else None


def advice(role: str, path: Path) -> str:
    """What makes a checkpoint of a known kind fit for a role, to stand at the end of an error; mostly nothing."""
    return CONVERT.format(path=path) if role == "painter" and kind_of(path) == SINGLE_FILE else ""
