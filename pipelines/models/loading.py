"""From a checkpoint to a model: the adapter that opens its files, and its network, which is loaded once a process.

An adapter is a module of its own. It has

- `OPENS`: in words, the files and folders that it opens;
- `opens(path) -> bool`: whether a path is such a one; looks at names and descriptions and loads nothing;
- `load(path, call) -> network`: reads the weights; on the device `meta` only names and shapes. What is missing in a
  checkpoint is never made up;
- a function for each role it serves, which makes the role's model on a loaded network: `make_detector(network, call,
  side_px, as_trained)`, `make_segmenter(network, call)`, `make_proposer(network, call, grid)`,
  `make_painter(network, call, sampling)` or `make_encoder(network, call)`.

A new adapter is one such file, and its name in a tuple below. Adapters are imported, and torch with them, when a model
is first loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, InfrastructureError, PackshotError
from pipelines.models import Call, Detector, Encoder, Grid, Painter, Proposer, Sampling, Segmenter
from pipelines.models.cache import Cache
from pipelines.models.checkpoints import located, resolve
from pipelines.models.kinds import advice, kind_of
from pipelines.pixels.cutouts import Matting
from pipelines.strict import Checkpoint

Adapters = tuple[str, ...]
DETECTORS: Adapters = ("pipelines.models.grounding_dino", "pipelines.models.groundingdino_py")
SEGMENTERS: Adapters = ("pipelines.models.sam",)
PAINTERS: Adapters = ("pipelines.models.inpainting",)
ENCODERS: Adapters = ("pipelines.models.clip",)
LORAS: Adapters = ("pipelines.models.lora",)
ADAPTERS: dict[str, Adapters] = {
    "detector": DETECTORS,
    "segmenter": SEGMENTERS,
    "painter": PAINTERS,
    "encoder": ENCODERS,
    "lora": LORAS,
}
"""Of each role the adapters; the first that opens a checkpoint loads it. Proposers are made on segmenters' networks."""
HALF_PRECISION_ON_GPU = frozenset({"painter"})

KEPT_BYTES = 24 * 2**30
"""So many bytes of weights a process keeps for further stages. A full set of the largest models that are opened takes
10 GiB in single precision; three more painters fit, which a server with several recipes may have. A stage holds its own
network, whatever is evicted here."""
Loras = tuple[tuple[Checkpoint, float], ...]
"""LoRAs and the weight of each."""
Loaded = tuple[Any, Any]
"""An adapter, and a network that it loaded."""


def _size(loaded: Loaded) -> int:
    from pipelines.models.calls import parameter_bytes

    return parameter_bytes(loaded[1])


_networks: Cache[tuple[str, Call, Loras, Adapters], Loaded] = Cache(KEPT_BYTES, _size)


def make_call(role: str, checkpoint: Checkpoint, call_size: int, threads: int) -> Call:
    """How this process calls a role's network: on the GPU if it has one, and there painters in half precision.

    Raises:
        InfrastructureError: the process was given a GPU that cannot be used.
    """
    from pipelines.models.calls import device

    where = device()
    is_half = where == "cuda" and role in HALF_PRECISION_ON_GPU
    return Call(checkpoint, call_size, threads, where, "float16" if is_half else "float32")


def load_detector(
    call: Call, side_px: int | None = None, as_trained: bool = False, adapters: Adapters = DETECTORS
) -> Detector:
    """The detector of a checkpoint; `side_px` and `as_trained` say how it sees a picture, as `detect.sizing` does."""
    adapter, network = _network("detector", call, adapters)
    detector: Detector = adapter.make_detector(network, call, side_px, as_trained)
    return detector


def load_segmenter(call: Call, adapters: Adapters = SEGMENTERS) -> Segmenter:
    """The segmenter of a checkpoint."""
    adapter, network = _network("segmenter", call, adapters)
    segmenter: Segmenter = adapter.make_segmenter(network, call)
    return segmenter


def load_proposer(call: Call, grid: Grid, adapters: Adapters = SEGMENTERS) -> Proposer:
    """The proposer of a segmenter's checkpoint, on the network that a segmenter of it has.

    Raises:
        ConfigError: this segmenter has no proposer.
    """
    adapter, network = _network("segmenter", call, adapters)
    if not hasattr(adapter, "make_proposer"):
        raise ConfigError(
            f"the segmenter {call.checkpoint.uri!r} needs a box or points and cannot propose masks by itself, as "
            f"`find` asks for; take `detect` and `segment`, or another `find.checkpoint`"
        )
    proposer: Proposer = adapter.make_proposer(network, call, grid)
    return proposer


def load_painter(call: Call, sampling: Sampling, loras: Loras = (), adapters: Adapters = PAINTERS) -> Painter:
    """The painter of a checkpoint; each set of LoRAs makes a network of its own."""
    adapter, network = _network("painter", call, adapters, loras)
    painter: Painter = adapter.make_painter(network, call, sampling)
    return painter


def load_encoder(call: Call, adapters: Adapters = ENCODERS) -> Encoder:
    """The encoder of a checkpoint."""
    adapter, network = _network("encoder", call, adapters)
    encoder: Encoder = adapter.make_encoder(network, call)
    return encoder


def load_matting() -> Matting:
    """The matting of cut-outs; it has no weights."""
    from pipelines.models.closed_form import closed_form_matting

    return closed_form_matting


def inspect(role: str, checkpoint: Checkpoint) -> Path:
    """Where a checkpoint lies, once it is seen that it can be loaded in a role, without reading its weights.

    Its kind, the files it needs, names and shapes of its weights against the network of its config, its tokenizer's
    numbers, its pin; not whether the hash is the pinned one. A LoRA's layers are left to loading.

    Raises:
        ConfigError, InfrastructureError: it cannot be loaded; says why, and what to do.
    """
    path = located(checkpoint)
    _load(role, path, Call(checkpoint, call_size=1, threads=1, device="meta", dtype="float32"), ADAPTERS[role])
    return path


def _network(role: str, call: Call, adapters: Adapters, loras: Loras = ()) -> Loaded:
    """An adapter and its network, loaded once a process whatever is asked of it a call.

    Raises:
        ConfigError, InfrastructureError: there is no such checkpoint, no adapter opens it, or it cannot be loaded.
    """
    shared = replace(call, call_size=1, threads=1)

    def load() -> Loaded:
        return _load(role, resolve(call.checkpoint), shared, adapters, **_lora_files(loras, shared))

    return _networks.get((role, shared, loras, adapters), load)


def _lora_files(loras: Loras, call: Call) -> dict[str, Any]:
    if not loras:
        return {}
    alone = [(weight, replace(call, checkpoint=checkpoint)) for checkpoint, weight in loras]
    return {"loras": [(_load("lora", resolve(one.checkpoint), one, LORAS)[1], weight) for weight, one in alone]}


def _load(role: str, path: Path, call: Call, adapters: Adapters, **more: Any) -> Loaded:
    try:
        adapter = _adapter(role, path, adapters)
        return adapter, adapter.load(path, call, **more)
    except PackshotError:
        raise
    except Exception as error:  # whatever a library says of files that it cannot use, it stops the run
        raise InfrastructureError(f"cannot load the {role} {call.checkpoint.uri!r} from {path}: {error}") from error


def _adapter(role: str, path: Path, adapters: Adapters) -> Any:
    """The first adapter that opens a path.

    Raises:
        ConfigError: it is another model; says what it is and what the role opens.
        InfrastructureError: it is no model, or not all of one.
    """
    for adapter in map(import_module, adapters):
        if adapter.opens(path):
            return adapter
    opened = "; or ".join(import_module(name).OPENS for name in adapters)
    if kind := kind_of(path) or _kind_by_role(path):
        raise ConfigError(f"{path} is {kind}; as {role}, Packshot opens {opened}{advice(role, path)}")
    there = sorted(one.name for one in path.glob("*")) if path.is_dir() else []
    holds = f"holds {', '.join(there[:8])}" if there else "is empty" if path.is_dir() else "is one file"
    raise InfrastructureError(
        f"{path} {holds}, and is no model that can be told by its config.json, its model_index.json or the names of "
        f"its weights; as {role}, Packshot opens {opened}"
    )


def _kind_by_role(path: Path) -> str | None:
    """What a path is for another role, in words; None if no adapter opens it."""
    opening: Iterable[str] = (
        import_module(name).OPENS for names in ADAPTERS.values() for name in names if import_module(name).opens(path)
    )
    return next(iter(opening), None)
