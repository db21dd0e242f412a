"""Templates over a table's columns: `a {colour} {category}`."""

from __future__ import annotations

import re
import string

from pipelines.errors import ConfigError


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


def literal(text: str) -> str:
    """A text as a template without columns: its braces mean nothing."""
    return text.replace("{", "{{").replace("}", "}}")
