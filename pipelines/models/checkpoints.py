"""Where a checkpoint lies on this machine, whether it is the pinned one, and the hash of its files.

A checkpoint is data, not code: weights are read as safetensors or, pinned, with torch's `weights_only`. Nothing is
downloaded. Loads no torch.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models import groundingdino_config
from pipelines.models.cache import Cache
from pipelines.models.files import PICKLES, pickles_read
from pipelines.strict import Checkpoint

EMBEDDED = Path(__file__).parents[1] / "embedded"
SUFFIXES_READ = frozenset({".safetensors", ".json", ".txt", ".model"})  # of a folder; of pickles those that are loaded
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FETCHED = "--include '*.json' --include '*.txt' --include '*model*.safetensors' --exclude '*safety_checker*'"
FETCHED_PICKLES = "--include '*pytorch_model.bin'"
_hashes: Cache[tuple[tuple[str, int, int], ...], str] = Cache(most=256)


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


def weights_hash(checkpoint: Checkpoint) -> str:
    """The sha256 over the names and contents of all files that a checkpoint's results depend on.

    What lies beside a `.pth` of Grounding DINO counts as well. Known again by size and time of change, so that a
    process reads the files once.

    Raises:
        ConfigError, InfrastructureError: as `resolve`.
    """
    path = resolve(checkpoint)
    return _hash(_files(path), path if path.is_dir() else path.parent)


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


def _files(path: Path) -> list[Path]:
    """The files that count: of a folder those that are read; a file itself and what Grounding DINO needs beside it."""
    if path.is_dir():
        return sorted([*_described_files(path), *pickles_read(path)])
    if not groundingdino_config.opens(path):
        return [path]
    config = groundingdino_config.config_beside(path)
    text_encoder = groundingdino_config.text_encoder_beside(path, groundingdino_config.read_config(config))
    return [path, config, *_described_files(text_encoder)]


def _described_files(folder: Path) -> list[Path]:
    found = [one for one in folder.rglob("*") if one.suffix in SUFFIXES_READ and one.is_file()]
    return sorted(one for one in found if not any(part.startswith(".") for part in one.relative_to(folder).parts))


def _hash(files: list[Path], root: Path, named: bool = True) -> str:
    """The sha256 of a file's bytes or, `named`, of sorted lines `sha256  name` as `sha256sum` writes them."""
    stats = [(one, one.stat()) for one in files]
    key = tuple((f"{one}{'' if named else '#'}", stat.st_size, stat.st_mtime_ns) for one, stat in stats)
    return _hashes.get(key, lambda: _listed(files, root) if named else _digest(files[0]))


def _listed(files: list[Path], root: Path) -> str:
    digests = {one.relative_to(root).as_posix(): _digest(one) for one in files}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
