"""Which words of the prompts a recipe's embedded models do not know, so that its author hears of them."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.models.words import unknown_words
from pipelines.recipe import Recipe
from pipelines.rows import plain


def unknown_to(recipe: Recipe, find: Iterable[str], paint: Iterable[str]) -> list[str]:
    """The words that some embedded model of a recipe does not know, each once, in alphabetical order.

    Args:
        recipe: its other models spell unknown words in pieces.
        find: the prompts of what finds the product.
        paint: the prompts of the painter, and of the encoder that scores.

    Raises:
        ConfigError, InfrastructureError: the weights of an embedded model are not there.
    """
    texts = {"detect": set(find), "find": set(find), "paint": set(paint), "score": set(paint)}
    words: set[str] = set()
    for where, checkpoint in recipe.checkpoints().items():
        if checkpoint.is_embedded:
            words.update(unknown_words(checkpoint, texts.get(plain(where.partition("+")[0]), set())))
    return sorted(words)


def warning(recipe: Recipe, find: Iterable[str], paint: Iterable[str]) -> str | None:
    """A sentence about the words that `unknown_to` finds; None if there are none."""
    words = ", ".join(map(repr, unknown_to(recipe, find, paint)))
    return f"the embedded models do not know {words}, and pass over such words" if words else None
