"""From a checkpoint to a model: find its files, check their hash, load each network once a process.

A checkpoint is data, not code: weights are read as safetensors or with torch's `weights_only`. Adapters, and torch
with them, are imported when a model is first loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import ConfigError, InfrastructureError, PackshotError
from pipelines.models import Detector, Encoder, Matting, Painter, Segmenter
from pipelines.settings import Checkpoint, DetectSettings, Lora, PaintSettings, ScoreSettings, SegmentSettings

EMBEDDED = Path(__file__).parents[1] / "embedded"
PICKLES = frozenset({".pth", ".pt", ".ckpt", ".bin"})
KINDS_READ = frozenset({".safetensors", ".json", ".txt", ".model"})  # of a folder; pickles in it are never opened
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DETECTOR_TYPES = ("grounding-dino", "mm-grounding-dino")

KEPT_NETWORKS = 8
"""So many networks a process keeps for further stages, counted and not weighed: a full set is one each of four roles,
and a stage keeps its own. The one that was asked for longest ago goes first."""
KEPT_HASHES = 256

Key = TypeVar("Key")
Value = TypeVar("Value")

_networks: OrderedDict[tuple[str, Checkpoint, tuple[Lora, ...]], Any] = OrderedDict()
_loading = threading.Lock()
_hashes: OrderedDict[tuple[tuple[str, int, int], ...], str] = OrderedDict()


def load_detector(settings: DetectSettings) -> Detector:
    """The detector of these settings, on a network that is loaded once a process."""
    network = _network("detector", settings.checkpoint, _detector_network)
    from pipelines.models.grounding_dino import GroundingDino

    return GroundingDino(network, settings)


def load_segmenter(settings: SegmentSettings) -> Segmenter:
    """The segmenter of these settings, on a network that is loaded once a process."""
    network = _network("segmenter", settings.checkpoint, _segmenter_network)
    from pipelines.models.sam import SamSegmenter

    return SamSegmenter(network, settings)


def load_painter(settings: PaintSettings) -> Painter:
    """The painter of these settings, on networks that are loaded once a process."""
    loras = fused(settings)
    network = _network("painter", settings.checkpoint, partial(_painter_network, loras=loras), loras)
    from pipelines.models.inpainting import InpaintingPainter

    return InpaintingPainter(network, settings)


def fused(settings: PaintSettings) -> tuple[Lora, ...]:
    """The LoRAs that are added to the painter's weights: each such set is a network of its own."""
    return tuple(one for one in settings.lora if one.weight)


def load_encoder(settings: ScoreSettings) -> Encoder:
    """The encoder of these settings, on a network that is loaded once a process."""
    network = _network("encoder", settings.checkpoint, _encoder_network)
    from pipelines.models.clip import ClipEncoder

    return ClipEncoder(network, settings)


def load_matting() -> Matting:
    """The matting of cut-outs; it has no weights."""
    from pipelines.models.closed_form import ClosedFormMatting

    return ClosedFormMatting()


def _network(role: str, checkpoint: Checkpoint, load: Callable[[Path], Any], loras: tuple[Lora, ...] = ()) -> Any:
    with _loading:
        return _kept(_networks, (role, checkpoint, loras), partial(_loaded, role, checkpoint, load), KEPT_NETWORKS)


def _kept(cache: OrderedDict[Key, Value], key: Key, make: Callable[[], Value], most: int) -> Value:
    """What is kept under a key, made if it is not; of more than `most`, the one asked for longest ago goes."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > most:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def _loaded(role: str, checkpoint: Checkpoint, load: Callable[[Path], Any]) -> Any:
    path = resolve(checkpoint)
    try:
        return load(path)
    except PackshotError:
        raise
    except Exception as error:  # whatever a library says of files that it cannot use, it stops the run
        raise InfrastructureError(f"cannot load the {role} {checkpoint.uri!r} from {path}: {error}") from error


def _detector_network(path: Path) -> Any:
    if path.is_file():
        from pipelines.models import groundingdino_py

        return groundingdino_py.load_network(path)
    kind = _described(path, "config.json").get("model_type")
    if kind not in DETECTOR_TYPES:
        raise ConfigError(f"{path} holds a model of type {kind!r}; a detector is one of {', '.join(DETECTOR_TYPES)}")
    from pipelines.models import grounding_dino

    return grounding_dino.load_network(path)


def _segmenter_network(path: Path) -> Any:
    from pipelines.models import sam

    return sam.load_network(path)


def _painter_network(path: Path, loras: tuple[Lora, ...]) -> Any:
    _described(path, "model_index.json")
    from pipelines.models import inpainting

    return inpainting.load_network(path, [(_lora_file(one.checkpoint), one.weight) for one in loras])


def _lora_file(checkpoint: Checkpoint) -> Path:
    path = resolve(checkpoint)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise ConfigError(
            f"the LoRA {checkpoint.uri!r} holds {len(files)} `.safetensors` files, expected one; "
            "give the path of the one you mean, with `#sha256=` and its hash behind it"
        )
    return files[0]


def _encoder_network(path: Path) -> Any:
    kind = _described(path, "config.json").get("model_type")
    if kind != "clip":
        raise ConfigError(f"{path} holds a model of type {kind!r}; an encoder is a CLIP model, of type 'clip'")
    from pipelines.models import clip

    return clip.load_network(path)


def _described(path: Path, name: str) -> dict[str, Any]:
    if not (path / name).is_file():
        raise InfrastructureError(f"{path} is no complete model: expected a folder with {name}")
    described: dict[str, Any] = json.loads((path / name).read_text(encoding="utf-8"))
    return described


def resolve(checkpoint: Checkpoint) -> Path:
    """The file or folder of a checkpoint, on this machine; nothing is downloaded.

    Raises:
        ConfigError: the checkpoint is of a kind that cannot be used, or is not pinned.
        InfrastructureError: it is not here, with the command that brings it, or has another hash.
    """
    uri = checkpoint.uri
    if checkpoint.is_embedded:
        return _embedded(uri.removeprefix("embedded:"))
    if re.match(r"(s3|gs|https?)://", uri):
        raise ConfigError(
            f"the checkpoint {uri!r} is remote, which comes with a later version; "
            "download it and give its path, with `#sha256=` and its hash behind it"
        )
    path = Path(uri).expanduser()
    if checkpoint.revision is None and path.exists():
        return _verified(path, checkpoint.sha256)
    if HUB_ID.fullmatch(uri) and path.suffix not in PICKLES:
        return _from_hub(uri, checkpoint.revision)
    raise InfrastructureError(
        f"there is no checkpoint at {uri!r}; expected a file or folder, `embedded:NAME`, or a hub id: org/model@COMMIT"
    )


def _embedded(name: str) -> Path:
    path = EMBEDDED / name
    if re.fullmatch(r"[a-z0-9-]+", name) and path.is_dir():
        return path
    raise InfrastructureError(f"the embedded model {name!r} is not in {EMBEDDED}; run `packshot train embedded {name}`")


def _from_hub(repo: str, revision: str | None) -> Path:
    if revision is None:
        raise ConfigError(
            f"the checkpoint {repo!r} is neither a path that exists nor pinned to a commit; "
            f"give {repo}@ and the 40-digit hash of one of its commits"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise InfrastructureError(
            f"the checkpoint {repo!r} is not on this machine; run `hf download {repo} --revision {revision}`"
        ) from error


def _verified(path: Path, expected: str | None) -> Path:
    if expected is None:
        if path.suffix in PICKLES:
            raise ConfigError(
                f"the checkpoint {path} is a pickle, which is only read when its hash is pinned; write "
                f"{path}#sha256={_hash([path], path.parent, named=False)} if you trust the file as it is"
            )
        return path
    found = _hash([path], path.parent, named=False) if path.is_file() else _hash(_files(path), path)
    if found != expected:
        raise InfrastructureError(
            f"the checkpoint {path} has sha256 {found}, expected {expected}; fetch it again, or pin the new hash"
        )
    return path


def weights_hash(checkpoint: Checkpoint) -> str:
    """The sha256 over the names and contents of all files that a checkpoint's results depend on.

    What lies beside a `.pth` of Grounding DINO counts as well. Known again by size and time of change, so that a
    process reads the files once.

    Raises:
        ConfigError, InfrastructureError: as `resolve`.
    """
    path = resolve(checkpoint)
    return _hash(_files(path), path if path.is_dir() else path.parent)


def _files(path: Path) -> list[Path]:
    """The files that count: of a folder those that are read; a file itself and what Grounding DINO needs beside it."""
    if path.is_dir():
        found = [one for one in path.rglob("*") if one.suffix in KINDS_READ and one.is_file()]
        return sorted(one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts))
    if path.suffix not in PICKLES or path.name.startswith("sam_"):
        return [path]
    from pipelines.models.groundingdino_config import config_beside, read_config, text_encoder_beside

    config = config_beside(path)
    return [path, config, *_files(text_encoder_beside(path, read_config(config)))]


def _hash(files: list[Path], root: Path, named: bool = True) -> str:
    """The sha256 of a file's bytes or, `named`, of sorted lines `sha256  name` as `sha256sum` writes them."""
    stats = [(one, one.stat()) for one in files]
    key = tuple((f"{one}{'' if named else '#'}", stat.st_size, stat.st_mtime_ns) for one, stat in stats)
    return _kept(_hashes, key, lambda: _listed(files, root) if named else _digest(files[0]), KEPT_HASHES)


def _listed(files: list[Path], root: Path) -> str:
    digests = {one.relative_to(root).as_posix(): _digest(one) for one in files}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
