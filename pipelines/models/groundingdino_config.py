"""What lies beside an official Grounding DINO `.pth`: its config `.py`, and its text encoder's folder."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, InfrastructureError


def config_beside(path: Path) -> Path:
    """The config of a `.pth`: the `.py` of the same name, or the only one in its folder."""
    named = path.with_suffix(".py")
    others = sorted(path.parent.glob("*.py"))
    if named.is_file():
        return named
    if len(others) == 1:
        return others[0]
    raise InfrastructureError(
        f"{path} needs its config beside it; expected {named.name}, or one .py alone in {path.parent}, "
        f"found {len(others)}; the official ones are in the groundingdino package, folder config"
    )


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
