"""Which words a small tokenizer does not know."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from pipelines.models.checkpoints import resolve
from pipelines.strict import Checkpoint


def unknown_words(checkpoint: Checkpoint, texts: Iterable[str]) -> list[str]:
    """The words of some texts that a detector's, painter's or encoder's tokenizer cannot tell from any other.

    Each once, in order. Empty for tokenizers that spell unknown words in pieces: only word-level ones, as the embedded
    models have, lose a word.

    Raises:
        ConfigError, InfrastructureError: as `checkpoints.resolve`.
    """
    path = _tokenizer_file(resolve(checkpoint))
    if path is None or (model := json.loads(path.read_text(encoding="utf-8"))["model"]).get("type") != "WordLevel":
        return []
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    found: dict[str, None] = {}
    for text in texts:
        encoded = tokenizer.encode(text, add_special_tokens=False)
        for token, (start, end) in zip(encoded.tokens, encoded.offsets, strict=True):
            if token == model["unk_token"]:
                found[text[start:end]] = None
    return list(found)


def _tokenizer_file(path: Path) -> Path | None:
    """`tokenizer.json` of a transformers folder, or of a diffusers folder's tokenizer."""
    places = (path / "tokenizer.json", path / "tokenizer" / "tokenizer.json")
    return next((one for one in places if one.is_file()), None)
