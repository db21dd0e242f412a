"""From a checkpoint to a model: find its files, check their hash, load each network once a process.

A checkpoint is data, not code: weights are read as safetensors or, pinned, with torch's `weights_only`. What is missing
in one is never made up. Adapters, and torch with them, are imported when a model is first loaded.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipelines.errors import ConfigError, InfrastructureError, PackshotError
from pipelines.models import Detector, Encoder, Painter, Segmenter
from pipelines.models.kinds import GROUNDING_DINO, check_kind, kind_of
from pipelines.models.weight_files import pickles_read
from pipelines.pixels.cutouts import Matting
from pipelines.recipe.settings import DetectSettings, Lora, PaintSettings, ScoreSettings, SegmentSettings
from pipelines.strict import Checkpoint

EMBEDDED = Path(__file__).parents[1] / "embedded"
PICKLES = frozenset({".pth", ".pt", ".ckpt", ".bin"})
KINDS_READ = frozenset({".safetensors", ".json", ".txt", ".model"})  # of a folder; of pickles those that are loaded
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FETCHED = "--include '*.json' --include '*.txt' --include '*model*.safetensors' --exclude '*safety_checker*'"
FETCHED_PICKLES = "--include '*pytorch_model.bin'"

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
    network = _network("detector", settings.checkpoint)
    from pipelines.models.grounding_dino import GroundingDino

    return GroundingDino(network, settings)


def load_segmenter(settings: SegmentSettings) -> Segmenter:
    """The segmenter of these settings, on a network that is loaded once a process."""
    network = _network("segmenter", settings.checkpoint)
    from pipelines.models.sam import SamSegmenter

    return SamSegmenter(network, settings)


def load_painter(settings: PaintSettings) -> Painter:
    """The painter of these settings, on networks that are loaded once a process."""
    network = _network("painter", settings.checkpoint, fused(settings))
    from pipelines.models.inpainting import InpaintingPainter

    return InpaintingPainter(network, settings)


def fused(settings: PaintSettings) -> tuple[Lora, ...]:
    """The LoRAs that are added to the painter's weights: each such set is a network of its own."""
    return tuple(one for one in settings.lora if one.weight)


def load_encoder(settings: ScoreSettings) -> Encoder:
    """The encoder of these settings, on a network that is loaded once a process."""
    network = _network("encoder", settings.checkpoint)
    from pipelines.models.clip import ClipEncoder

    return ClipEncoder(network, settings)


def load_matting() -> Matting:
    """The matting of cut-outs; it has no weights."""
    from pipelines.models.closed_form import ClosedFormMatting

    return ClosedFormMatting()


def inspect(role: str, checkpoint: Checkpoint) -> Path:
    """Where a checkpoint lies, once it is seen that it can be loaded in a role, without reading its weights.

    Its kind, the files it needs, names and shapes of its weights against the network of its config, its tokenizer's
    numbers, its pin; not whether the hash is the pinned one. A LoRA's layers are left to loading.

    Raises:
        ConfigError, InfrastructureError: it cannot be loaded; says why, and what to do.
    """
    path = located(checkpoint)
    if role == "lora":
        check_kind(role, _lora_file(checkpoint, path))
    else:
        _opened(role, checkpoint, path, (), read_weights=False)
    return path


def _network(role: str, checkpoint: Checkpoint, loras: tuple[Lora, ...] = ()) -> Any:
    def load() -> Any:
        return _opened(role, checkpoint, resolve(checkpoint), loras, read_weights=True)

    with _loading:
        return _kept(_networks, (role, checkpoint, loras), load, KEPT_NETWORKS)


def _kept(cache: OrderedDict[Key, Value], key: Key, make: Callable[[], Value], most: int) -> Value:
    """What is kept under a key, made if it is not; of more than `most`, the one asked for longest ago goes."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > most:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def _opened(role: str, checkpoint: Checkpoint, path: Path, loras: tuple[Lora, ...], read_weights: bool) -> Any:
    check_kind(role, path)
    try:
        if role == "painter":
            from pipelines.models import inpainting

            return inpainting.load_network(path, [(_lora(one), one.weight) for one in loras], read_weights)
        return _adapter(role, path)(path, read_weights=read_weights)
    except PackshotError:
        raise
    except Exception as error:  # whatever a library says of files that it cannot use, it stops the run
        raise InfrastructureError(f"cannot load the {role} {checkpoint.uri!r} from {path}: {error}") from error


def _adapter(role: str, path: Path) -> Callable[..., Any]:
    """The function that loads a network of this role, of the library that its files are for."""
    if role == "detector" and path.is_file():
        from pipelines.models import groundingdino_py

        return groundingdino_py.load_network
    from pipelines.models import clip, grounding_dino, sam

    load: Callable[..., Any] = {"detector": grounding_dino, "segmenter": sam, "encoder": clip}[role].load_network
    return load


def _lora(lora: Lora) -> Path:
    file = _lora_file(lora.checkpoint, resolve(lora.checkpoint))
    check_kind("lora", file)
    return file


def _lora_file(checkpoint: Checkpoint, path: Path) -> Path:
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise ConfigError(
            f"the LoRA {checkpoint.uri!r} holds {len(files)} `.safetensors` files, expected one; "
            "give the path of the one you mean, with `#sha256=` and its hash behind it"
        )
    return files[0]


def resolve(checkpoint: Checkpoint) -> Path:
    """The file or folder of a checkpoint, on this machine, its pinned hash checked; nothing is downloaded.

    Raises:
        ConfigError, InfrastructureError: as `located`; or it has another hash.
    """
    path = located(checkpoint)
    if checkpoint.sha256 is None or checkpoint.revision is not None:
        return path
    found = _own_hash(path)
    if found != checkpoint.sha256:
        raise InfrastructureError(
            f"the checkpoint {path} has sha256 {found}, expected {checkpoint.sha256}; "
            "fetch it again, or pin the new hash"
        )
    return path


def located(checkpoint: Checkpoint) -> Path:
    """The file or folder of a checkpoint, on this machine, before any hash is checked; nothing is downloaded.

    Raises:
        ConfigError: the checkpoint is of a kind that cannot be used, or needs a pin and has none.
        InfrastructureError: it is not here, with the command that brings it.
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
        return path if checkpoint.sha256 else _without_pickles(path)
    if HUB_ID.fullmatch(uri) and path.suffix not in PICKLES:
        return _from_hub(uri, checkpoint.revision)
    raise InfrastructureError(
        f"there is no checkpoint at {uri!r}; expected a file or folder, `embedded:NAME`, or a hub id: org/model@COMMIT"
    )


def pinned(checkpoint: Checkpoint) -> str:
    """A checkpoint as a recipe names it with its pin; of a path without one, the pin that it would have today.

    Raises:
        ConfigError, InfrastructureError: as `located`.
    """
    if checkpoint.is_embedded:
        return checkpoint.uri
    if checkpoint.revision is not None:
        return f"{checkpoint.uri}@{checkpoint.revision}"
    return f"{checkpoint.uri}#sha256={checkpoint.sha256 or _own_hash(located(checkpoint))}"


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
        fetch = f"hf download {repo} --revision {revision}"
        raise InfrastructureError(
            f"the checkpoint {repo!r} is not on this machine; run `{fetch} {FETCHED}` and, only if that brings no "
            f"weights, `{fetch} {FETCHED_PICKLES}`"
        ) from error


def _without_pickles(path: Path) -> Path:
    """A path without a pin, if nothing in it needs one."""
    if path.suffix in PICKLES or pickles_read(path):
        raise ConfigError(
            f"the weights of {path} are a pickle, which is only read when its hash is pinned; write "
            f"{path}#sha256={_own_hash(path)} if you trust it as it is"
        )
    return path


def _own_hash(path: Path) -> str:
    """What `#sha256=` says: of a file its own, of a folder that of its list of files."""
    return _hash([path], path.parent, named=False) if path.is_file() else _hash(_files(path), path)


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
        return sorted([*_described_files(path), *pickles_read(path)])
    if path.suffix not in PICKLES or path.name.startswith("sam_") or kind_of(path) not in (None, GROUNDING_DINO):
        return [path]
    from pipelines.models.groundingdino_config import config_beside, read_config, text_encoder_beside

    config = config_beside(path)
    return [path, config, *_described_files(text_encoder_beside(path, read_config(config)))]


def _described_files(folder: Path) -> list[Path]:
    found = [one for one in folder.rglob("*") if one.suffix in KINDS_READ and one.is_file()]
    return sorted(one for one in found if not any(part.startswith(".") for part in one.relative_to(folder).parts))


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
