"""What a checkpoint's files say of it, and which files of a folder are its weights; loads no torch and runs no pickle.

Of a folder's weights the first of these is taken: plain safetensors, safetensors in half precision
(`*.fp16.safetensors`), a pickle (`*.bin`), which needs a pin.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import InfrastructureError

PICKLES = frozenset({".pth", ".pt", ".ckpt", ".bin"})
MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Names:
    """How a library names its weights, before `.safetensors` and before `.bin`."""

    safetensors: str
    pickle: str


TRANSFORMERS = Names("model", "pytorch_model")
DIFFUSERS = Names("diffusion_pytorch_model", "diffusion_pytorch_model")
PARTS = {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS}
"""The networks of a diffusers folder that are loaded, each in a folder of its own."""


@dataclass(frozen=True)
class WeightFiles:
    """The weights of one network: its files, more than one if they are in shards; and which of the kinds they are."""

    files: tuple[Path, ...]
    is_pickle: bool = False
    variant: str | None = None


def described(path: Path) -> dict[str, Any]:
    """What a JSON file of a model says; nothing where there is no such file.

    Raises:
        InfrastructureError: it is not JSON.
    """
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InfrastructureError(f"{path} is not JSON ({error}); fetch it again") from error
    return found


def model_type(folder: Path) -> str | None:
    """The type that a transformers folder's `config.json` names, or else its architecture; None where it names none."""
    config = described(folder / "config.json")
    return config.get("model_type") or next(iter(config.get("architectures") or ()), None)


def pipeline_class(folder: Path) -> str | None:
    """The pipeline that a diffusers folder's `model_index.json` names; None where there is none."""
    index = described(folder / "model_index.json")
    return str(index.get("_class_name")) if index else None


def weight_names(path: Path) -> bytes:
    """The bytes in which a file's weights are named: a safetensors' header, or a pickle without its tensors.

    Empty where they cannot be read so, as in the pickles of torch before 1.6.
    """
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            return file.read(min(int.from_bytes(file.read(8), "little"), MOST_HEADER_BYTES))
    if not zipfile.is_zipfile(path):
        return b""
    with zipfile.ZipFile(path) as archive:
        listed = [one for one in archive.infolist() if one.filename.endswith("data.pkl")]
        return archive.read(listed[0]) if listed and listed[0].file_size < MOST_HEADER_BYTES else b""


def weight_files(folder: Path, names: Names) -> WeightFiles:
    """The files that are loaded as a network of this folder.

    Raises:
        InfrastructureError: there are none.
    """
    for found in _kinds(folder, names):
        if found.files:
            return found
    there = sorted(one.name for one in folder.glob("*")) if folder.is_dir() else []
    raise InfrastructureError(
        f"there are no weights in {folder}; expected {names.safetensors}.safetensors, {names.safetensors}"
        f".fp16.safetensors or {names.pickle}.bin, found {', '.join(there[:8]) or 'nothing'}; fetch it again"
    )


def pickles_read(path: Path) -> list[Path]:
    """The pickles that loading a folder would read: those of networks which have nothing better."""
    return [file for folder, names in _networks_of(path) for file in _pickles(folder, names)]


def _pickles(folder: Path, names: Names) -> tuple[Path, ...]:
    kind = next((one for one in _kinds(folder, names) if one.files), None)
    return kind.files if kind and kind.is_pickle else ()


def _networks_of(path: Path) -> Iterator[tuple[Path, Names]]:
    if (path / "model_index.json").is_file():
        yield from ((path / part, names) for part, names in PARTS.items())
    elif (path / "config.json").is_file():
        yield path, TRANSFORMERS


def _kinds(folder: Path, names: Names) -> Iterator[WeightFiles]:
    plain = f"{names.safetensors}.safetensors"
    yield WeightFiles(_there(folder, plain, f"{plain}.index.json"))
    half = f"{names.safetensors}.fp16.safetensors"
    yield WeightFiles(_there(folder, half, f"{plain}.index.fp16.json"), variant="fp16")
    pickle = f"{names.pickle}.bin"
    yield WeightFiles(_there(folder, pickle, f"{pickle}.index.json"), is_pickle=True)


def _there(folder: Path, single: str, index: str) -> tuple[Path, ...]:
    shards: set[str] = set()
    if (folder / index).is_file():
        shards = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
    return tuple(folder / name for name in sorted({single, *shards}) if (folder / name).is_file())
