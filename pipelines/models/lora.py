"""LoRA files (Hu et al. 2021, arXiv:2106.09685), whose changes are added to a diffusers pipeline's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError
from pipelines.models import Call
from pipelines.models.files import weight_names

OPENS = "a `.safetensors` file of a LoRA"


def opens(path: Path) -> bool:
    """Whether a path is a `.safetensors` file with the names of a LoRA's weights, or a folder of such files."""
    files = [path] if path.is_file() else _files(path)
    return bool(files) and all(file.suffix == ".safetensors" and b"lora" in weight_names(file) for file in files)


def load(path: Path, call: Call) -> Path:
    """The LoRA's file; its layers are compared with the painter's only where it is added.

    Raises:
        ConfigError: a folder holds several.
    """
    files = [path] if path.is_file() else _files(path)
    if len(files) != 1:
        raise ConfigError(
            f"the LoRA {call.checkpoint.uri!r} holds {len(files)} `.safetensors` files, expected one; "
            "give the path of the one you mean, with `#sha256=` and its hash behind it"
        )
    return files[0]


def add(pipeline: Any, file: Path, weight: float) -> None:
    """Add the changes of a LoRA, times its weight, to a pipeline's networks for good.

    Raises:
        ConfigError: it changes no layer of them.
    """
    pipeline.load_lora_weights(
        file.parent, weight_name=file.name, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
    )
    changed = list(pipeline.get_list_adapters())
    if not changed:
        raise ConfigError(
            f"the LoRA {file} changes no layer of this painter's UNet or text model; expected one made for its family"
        )
    pipeline.fuse_lora(changed, lora_scale=weight, safe_fusing=True)
    pipeline.unload_lora_weights()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
