"""Look at everything that a render would need, before the night does."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import inf

from pipelines import catalogue, storage
from pipelines.errors import PackshotError
from pipelines.executors.placement import check_fits, named
from pipelines.models.checkpoints import pinned, weights_hash
from pipelines.models.loading import inspect
from pipelines.recipe import Recipe
from pipelines.strict import Checkpoint


@dataclass(frozen=True)
class Finding:
    """One check: its name, whether all is well, what was found, and what to do if not, or to make it better."""

    check: str
    ok: bool
    found: str
    to_do: str = ""


def examine(
    recipe: Recipe, placement: str, catalogue_uri: str | None, output_uri: str | None, limit: int | None
) -> list[Finding]:
    """Check libraries, weights, devices and, where given, catalogue and output; leaves nothing behind."""
    return [
        *(_look(f"library {name}", partial(version, name)) for name in ("ray", "torch", "diffusers", "transformers")),
        *_weights(recipe),
        _look("devices", lambda: _devices(placement)),
        *([_look("catalogue", lambda: _catalogue(catalogue_uri, recipe, limit))] if catalogue_uri else []),
        *([_look("output", lambda: _output(output_uri))] if output_uri else []),
    ]


def unusable(recipe: Recipe) -> list[Finding]:
    """The findings on a recipe's own weights that cannot be loaded; no weights are read, and no hash is computed.

    Weights that ship with the package are left to `examine`, since they would cost ten seconds of imports.
    """
    own = [load for load in recipe.loads() if not load[2].is_embedded]
    found = [_look(f"weights of {node}", partial(_inspected, role, one)) for node, role, one in own]
    return [finding for finding in found if not finding.ok]


def as_text(findings: Iterable[Finding]) -> str:
    """A line a finding, and one for what to do; lines are not cut, so that hashes and commands can be copied."""
    return "\n".join(line for finding in findings for line in _lines(finding))


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{'ok' if finding.ok else 'NOT OK':<8}{finding.check}" + (f": {finding.found}" if finding.found else "")
    if finding.to_do:
        yield f"        {finding.to_do}"


def _look(check: str, look: Callable[[], str | tuple[str, str]]) -> Finding:
    try:
        found = look()
        return Finding(check, True, *((found,) if isinstance(found, str) else found))
    except PackshotError as error:
        return Finding(check, False, "", str(error))


def _weights(recipe: Recipe) -> Iterator[Finding]:
    for node, role, checkpoint in recipe.loads():
        yield _look(f"weights of {node}", partial(_weight, role, checkpoint))


def _weight(role: str, checkpoint: Checkpoint) -> tuple[str, str]:
    path = _inspected(role, checkpoint)
    found = f"{checkpoint.uri} at {path}, sha256 of all its files {weights_hash(checkpoint)}"
    if checkpoint.is_embedded or checkpoint.revision or checkpoint.sha256:
        return found, ""
    return found, f"not pinned; to keep a run from other weights, write {pinned(checkpoint)}"


def _inspected(role: str, checkpoint: Checkpoint) -> str:
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()
        library.set_verbosity(logging.CRITICAL)  # what they log of weights that do not fit, the error says
    return str(inspect(role, checkpoint))


def _devices(placement: str) -> str:
    import os

    import torch

    gpus = torch.cuda.device_count()
    if "RAY_ADDRESS" not in os.environ:
        # Of CPUs Ray counts logical ones here, as many as are asked for.
        check_fits(named(placement), cpus=inf, gpus=gpus, there="this machine")
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
