"""Files for what is too long for a log: they lie in `PACKSHOT_LOG_FOLDER`, or in the system's temporary folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

LOG_FOLDER = "PACKSHOT_LOG_FOLDER"


def new_file(kind: str, suffix: str) -> Path:
    """Make an empty file `packshot-KIND-....SUFFIX` that was not there before.

    Raises:
        OSError: the folder is not there, or refuses.
    """
    number, path = tempfile.mkstemp(suffix, f"packshot-{kind}-", os.environ.get(LOG_FOLDER))
    os.close(number)
    return Path(path)
