"""Look at everything that a render would need, before the night does."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from pipelines import catalogue, storage
from pipelines.errors import PackshotError
from pipelines.models.loading import resolve, weights_hash
from pipelines.placement import named
from pipelines.recipe import Recipe
from pipelines.settings import Checkpoint


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is as it should be, what was found, what to do if not."""

    check: str
    ok: bool
    found: str
    to_do: str = ""


def examine(
    recipe: Recipe, placement: str, catalogue_uri: str | None, output_uri: str | None, limit: int | None
) -> list[Finding]:
    """Look at libraries, weights, devices and, where given, catalogue and output; leaves nothing behind."""
    return [
        *(_look(f"library {name}", partial(version, name)) for name in ("ray", "torch", "diffusers", "transformers")),
        *_weights(recipe),
        _look("devices", lambda: _devices(placement)),
        *([_look("catalogue", lambda: _catalogue(catalogue_uri, recipe, limit))] if catalogue_uri else []),
        *([_look("output", lambda: _output(output_uri))] if output_uri else []),
    ]


def _look(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, True, look())
    except PackshotError as error:
        return Finding(check, False, "", str(error))


def _weights(recipe: Recipe) -> Iterator[Finding]:
    for node, checkpoint in recipe.checkpoints().items():
        yield _look(f"weights of {node}", partial(_weight, checkpoint))


def _weight(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.uri}, sha256 {weights_hash(checkpoint)[:12]}, {resolve(checkpoint)}"


def _devices(placement: str) -> str:
    import os

    import torch

    gpus = torch.cuda.device_count()
    asked = sum(group.gpus * group.replicas for group in named(placement))
    if asked > gpus and "RAY_ADDRESS" not in os.environ:
        raise PackshotError(
            f"placement {placement!r} asks for {asked:g} GPUs, here are {gpus}; take `--placement local`"
        )
    return f"{os.cpu_count()} CPUs, {gpus} GPUs"


def _catalogue(uri: str, recipe: Recipe, limit: int | None) -> str:
    rows, is_sample = catalogue.product_rows(uri, recipe, limit)
    unlisted = sum(row["source_version"] is None for row in rows)
    sample = ", the sample catalogue" if is_sample else ""
    return f"{len(rows)} items{sample}; {unlisted} pictures are not where the table says"


def _output(uri: str) -> str:
    probe = storage.join(uri, f"doctor-{uuid.uuid4().hex}")
    storage.write(probe, b"packshot doctor", if_absent=True)
    if storage.write(probe, b"again", if_absent=True):
        raise PackshotError(f"{uri} ignores put-if-absent, which publishing relies on; use another store")
    storage.read(probe)
    storage.delete(probe)
    return "can be written, read and deleted; put-if-absent holds"
