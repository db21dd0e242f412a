"""Which words a small tokenizer does not know, so that a recipe's author hears of it before the night."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from pipelines.models.loading import resolve
from pipelines.recipe import Recipe
from pipelines.strict import Checkpoint


def warnings(recipe: Recipe, find: Iterable[str], paint: Iterable[str]) -> tuple[str, ...]:
    """One sentence that names the words of some prompts which the recipe's embedded models do not know, or none.

    `find` goes to what looks for the product, `paint` to the painter and the encoder.
    """
    asked = [(recipe.detect or recipe.find, set(find)), (recipe.paint, set(paint)), (recipe.score, set(paint))]
    words: set[str] = set()
    for settings, texts in asked:
        for checkpoint in settings.weights().values() if settings else ():
            if checkpoint.is_embedded:
                words.update(unknown_words(checkpoint, texts))
    named = ", ".join(sorted(map(repr, words)))
    return (f"the embedded models do not know {named}, and pass over such words",) if words else ()


def unknown_words(checkpoint: Checkpoint, texts: Iterable[str]) -> list[str]:
    """The words of some texts that a detector's, painter's or encoder's tokenizer cannot tell from any other.

    Each once, in order. Empty for tokenizers that spell unknown words in pieces: only word-level ones, as the embedded
    models have, lose a word.

    Raises:
        ConfigError, InfrastructureError: as `loading.resolve`.
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
