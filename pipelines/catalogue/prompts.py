"""Prompts: their templates taken apart once for a table, and filled in for every row."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.catalogue.tables import need_column
from pipelines.recipe import Recipe
from pipelines.recipe.step import StepSettings
from pipelines.recipe.templates import template_columns
from pipelines.rows import STEP_WORDS, in_step

Words = dict[str, str | list[str | None] | None]


@dataclass(frozen=True)
class Template:
    """The template of a setting, as pairs of literal text and the column whose value follows it."""

    setting: str
    pieces: tuple[tuple[str, str | None], ...]

    def columns(self) -> list[str]:
        """The columns that it needs, in order."""
        return [name for _, name in self.pieces if name is not None]

    def fill(self, columns: Mapping[str, str | None]) -> str | None:
        """The text, or None if a value that it needs is null or blank."""
        made = []
        for literal, name in self.pieces:
            value = "" if name is None else columns[name]
            if value is None or (name is not None and not value.strip()):
                return None
            made.append(literal + value)
        return "".join(made)


def templates_of(recipe: Recipe, table: pa.Table) -> list[list[Template]]:
    """Each step's templates: find, negative, colour if the step has one, then those of paint.

    Raises:
        ConfigError: a template names a column that the table lacks or that holds no text.
    """
    return [[_template(table, *named) for named in _named(step)] for step in recipe.chain()]


def prompts(recipe: Recipe, templates: Sequence[Sequence[Template]], columns: Mapping[str, str | None]) -> Words:
    """The row's `STEP_WORDS` of every step; a word is null where a value that it needs is null or blank."""
    words: Words = {}
    for number, (step, own) in enumerate(zip(recipe.chain(), templates, strict=True), start=1):
        find, negative, *rest = [template.fill(columns) for template in own]
        colour, paint = (rest[0], rest[1:]) if step.prompts.colour else (None, rest)
        in_turn = [paint[variant % len(paint)] for variant in range(step.paint.variants)]
        filled = (find, None if None in paint else in_turn, negative, colour)
        words |= {in_step(name, number): value for name, value in zip(STEP_WORDS, filled, strict=True)}
    return words


def _named(step: StepSettings) -> list[tuple[str, str]]:
    return [
        ("prompts.find", step.find_template()),
        ("prompts.negative", step.prompts.negative),
        *([("prompts.colour", step.prompts.colour)] if step.prompts.colour else []),
        *(("prompts.paint", template) for template in step.prompts.paint),
    ]


def _template(table: pa.Table, setting: str, template: str) -> Template:
    for column in template_columns(template):
        need_column(table, setting, column, template)
    pieces = [(literal, name) for literal, name, _, _ in string.Formatter().parse(template)]
    return Template(setting, tuple(pieces))
