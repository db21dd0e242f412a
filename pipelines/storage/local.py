"""Local files: what `pipelines.storage` does on a disk; its functions are documented there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.errors import Changed, Missing, StorageError, TooManyBytes
from pipelines.storage.file import File

if TYPE_CHECKING:
    import pyarrow.fs

_UNFINISHED = ".packshot-"  # begins the name of a file that is still being written
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}  # ELOOP: a link that leads to itself


def list_files(uri: str, deep: bool) -> Iterator[File]:
    """List the regular files of a folder, or the file itself; a broken link and a file still being written are none."""
    if os.path.isfile(uri):
        paths = [uri]
    elif os.path.isdir(uri):
        paths = [os.path.join(folder, name) for folder, names in _folders(uri, deep) for name in names]
    else:
        raise StorageError(f"there is no folder or file {uri!r}")
    for path in sorted(paths):
        found = _stat(path)
        if found and stat.S_ISREG(found.st_mode):
            yield File(path, found.st_size, _version(found))


def list_folders(uri: str) -> list[str]:
    """List the folders in a folder."""
    if not os.path.isdir(uri):
        return []
    with os.scandir(uri) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir())


def read(uri: str, version: str | None, max_bytes: int | None) -> bytes:
    """Read a file whose size and time of change stay the same meanwhile."""
    try:
        if not stat.S_ISREG(os.stat(uri).st_mode):  # opening a pipe would wait for ever
            raise Missing(f"{uri} is a folder or device, not a file")
        with open(uri, "rb") as file:
            opened = os.fstat(file.fileno())
            if version and _version(opened) != version:
                raise Changed(f"{uri} is no longer the version that was listed")
            if max_bytes is not None and opened.st_size > max_bytes:
                raise TooManyBytes(f"{uri} has {opened.st_size:,} bytes; at most {max_bytes:,} are read")
            data = file.read(opened.st_size + 1)
            if len(data) != opened.st_size or _version(os.fstat(file.fileno())) != _version(opened):
                raise Changed(f"{uri} changed while it was read")
    except OSError as error:
        if error.errno in _NOWHERE:
            raise Missing(f"{uri} is not there") from error
        raise _unusable(uri, error) from error
    return data


def write(uri: str, data: bytes, if_absent: bool) -> bool:
    """Write a file under another name beside its own, then give it its name."""
    folder = os.path.dirname(uri) or "."
    unfinished = os.path.join(folder, f"{_UNFINISHED}{uuid.uuid4().hex}")
    try:
        if if_absent and os.path.exists(uri):
            return False
        os.makedirs(folder, exist_ok=True)
        try:
            _write_through(unfinished, data)
            if not if_absent:
                os.replace(unfinished, uri)
                return True
            os.link(unfinished, uri)  # unlike a rename, a link refuses a name that is taken
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
    except OSError as error:
        if if_absent and isinstance(error, FileExistsError) and os.path.exists(uri):
            return False
        raise _unusable(uri, error) from error
    return True


def delete(uri: str) -> None:
    """Remove a file."""
    try:
        os.unlink(uri)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unusable(uri, error) from error


def arrow(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Pyarrow's local file system, and the absolute path."""
    import pyarrow.fs

    return pyarrow.fs.LocalFileSystem(), os.path.abspath(uri)


def _write_through(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise _unusable(path, error) from error


def _folders(uri: str, deep: bool) -> Iterator[tuple[str, list[str]]]:
    def refuse(error: OSError) -> None:
        raise _unusable(str(error.filename or uri), error) from error

    for folder, below, names in os.walk(uri, onerror=refuse):
        yield folder, [name for name in names if not name.startswith(_UNFINISHED)]
        if not deep:
            below.clear()


def _version(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def _unusable(uri: str, error: OSError) -> StorageError:
    return StorageError(f"{uri} cannot be used: {error.strerror or error}")
