"""One run at a time: a lease under the run's folder, taken put-if-absent and renewed while the run works.

Each holder writes a numbered object `lease/00000001.json`; the highest number holds. A lease that was not renewed for
`LEASE_S` has lapsed, and the next number may be taken. Put-if-absent makes one winner.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines import storage
from pipelines.errors import ConfigError

LEASE_S = 90.0
RENEW_EVERY_S = 20.0


@contextmanager
def held(run_uri: str) -> Iterator[None]:
    """Hold the run's lease; it is renewed in the background and given up at the end.

    Raises:
        ConfigError: another process holds it; says who, and when it would lapse.
    """
    uri = _take(run_uri)
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(uri, stop), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        stop.set()
        renewing.join()
        storage.write(uri, _content(until=0.0))


def _take(run_uri: str) -> str:
    folder = storage.join(run_uri, "lease")
    taken = [file.uri for file in storage.list_files(folder, missing_ok=True)]
    newest = max(taken, default=None)
    if newest is not None:
        holder = json.loads(storage.read(newest))
        left_s = holder["until"] - time.time()
        if left_s > 0:
            raise ConfigError(
                f"{holder['owner']} is working on this run; wait for it to end. If it is dead, its lease lapses in "
                f"{left_s:.0f} s and the same command takes the run up again"
            )
    number = int(newest.rsplit("/", 1)[1].removesuffix(".json")) + 1 if newest else 1
    uri = storage.join(folder, f"{number:08d}.json")
    if not storage.write(uri, _content(time.time() + LEASE_S), if_absent=True):
        raise ConfigError("another process took this run's lease at the same moment; wait for it to end")
    return uri


def _renew(uri: str, stop: threading.Event) -> None:
    while not stop.wait(RENEW_EVERY_S):
        storage.write(uri, _content(time.time() + LEASE_S))


def _content(until: float) -> bytes:
    return json.dumps({"owner": f"{socket.gethostname()}, process {os.getpid()}", "until": until}).encode()
