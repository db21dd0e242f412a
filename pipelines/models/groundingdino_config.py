"""An official Grounding DINO `.pth`: how it is known, and what lies beside it. Loads no torch."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models.files import PICKLES, weight_names

NAMED_IN_WEIGHTS = (b"feat_map.", b"transformer.level_embed")


def opens(path: Path) -> bool:
    """Whether a file is an official checkpoint by the names of its weights; where those cannot be read, by its config.

    SAM's official files may lie in the same folder, so one of their names is not taken for a Grounding DINO.
    """
    if not path.is_file() or path.suffix not in PICKLES:
        return False
    if names := weight_names(path):
        return all(one in names for one in NAMED_IN_WEIGHTS)
    return not path.name.startswith("sam_") and len(_configs_beside(path)) == 1


def config_beside(path: Path) -> Path:
    """The config of a `.pth`: the `.py` of the same name, or the only one in its folder.

    Raises:
        InfrastructureError: there is none, or there are several.
    """
    found = _configs_beside(path)
    if len(found) == 1:
        return found[0]
    raise InfrastructureError(
        f"{path} needs its config beside it; expected {path.with_suffix('.py').name}, or one .py alone in "
        f"{path.parent}, found {len(found)}; the official ones are in the groundingdino package, folder config"
    )


def _configs_beside(path: Path) -> list[Path]:
    named = path.with_suffix(".py")
    return [named] if named.is_file() else sorted(path.parent.glob("*.py"))


def text_encoder_beside(path: Path, config: dict[str, Any]) -> Path:
    """The folder of the text encoder that a config names, beside the `.pth`."""
    name = str(config.get("text_encoder_type", "bert-base-uncased"))
    folder = path.parent / name
    if not folder.is_dir():
        raise InfrastructureError(
            f"{path} needs the tokenizer and config of {name!r} in {folder}, which is not there; "
            f"run `hf download {name} --include '*.json' --include vocab.txt --local-dir {folder}`"
        )
    return folder


def read_config(path: Path) -> dict[str, Any]:
    """The values of a config `.py`, read without running it: a checkpoint is data, not code.

    Raises:
        ConfigError: it holds something other than `name = plain value`.
    """
    values: dict[str, Any] = {}
    for line in ast.parse(path.read_text(encoding="utf-8")).body:
        try:
            if not (isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)):
                raise ValueError(type(line).__name__)
            values[line.targets[0].id] = ast.literal_eval(line.value)
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {line.lineno}: expected `name = plain value` ({error}); a config is read, never run"
            ) from error
    return values
