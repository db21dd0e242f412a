"""One run at a time: a lease under the run's folder, taken put-if-absent and renewed while the run works.

Each holder writes a numbered object `lease/00000001.json`; the highest number holds. A lease that was not renewed for
`LEASE_S` has lapsed, and the next number may be taken. Put-if-absent makes one winner. A renewal that fails is tried
again; a holder whose lease lapsed all the same must not publish, which `Lease.check` refuses.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines import storage
from pipelines.errors import ConfigError, InfrastructureError, PackshotError

logger = logging.getLogger(__name__)

LEASE_S = 90.0
RENEWALS_A_LEASE = 4
RETRIES_A_RENEWAL = 4


@dataclass
class Lease:
    """A lease that this process took: where it lies, and when it lapses (seconds since 1970) unless it is renewed."""

    uri: str
    until: float

    def check(self) -> None:
        """Nothing while the lease is held.

        Raises:
            InfrastructureError: it lapsed, so another process may have taken the run over.
        """
        late_s = time.time() - self.until
        if late_s >= 0:
            raise InfrastructureError(
                f"this run's lease {self.uri} could not be renewed and lapsed {late_s:.0f} s ago, so another process "
                "may have taken the run over; nothing is published. Once the storage answers, the same command takes "
                "the run up where it stopped"
            )


@contextmanager
def held(run_uri: str, lease_s: float = LEASE_S) -> Iterator[Lease]:
    """Hold the run's lease; it is renewed in the background and given up at the end.

    Args:
        run_uri: the run's folder.
        lease_s: how long it holds without being renewed; the same for every process of an output.

    Raises:
        ConfigError: another process holds it; says who, and when it would lapse.
    """
    lease = _take(run_uri, lease_s)
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, lease_s, stop), name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        stop.set()
        renewing.join()
        _put(lease, until=0.0)


def _take(run_uri: str, lease_s: float) -> Lease:
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
    lease = Lease(storage.join(folder, f"{number:08d}.json"), time.time() + lease_s)
    if not storage.write(lease.uri, _content(lease.until), if_absent=True):
        raise ConfigError("another process took this run's lease at the same moment; wait for it to end")
    return lease


def _renew(lease: Lease, lease_s: float, stop: threading.Event) -> None:
    every_s = wait_s = lease_s / RENEWALS_A_LEASE
    while not stop.wait(wait_s):
        until = time.time() + lease_s
        is_renewed = _put(lease, until)
        if time.time() >= lease.until:  # a renewal that came too late takes nothing back
            logger.error("the run's lease %s has lapsed; nothing will be published", lease.uri)
            return
        if is_renewed:
            lease.until = until
        wait_s = every_s if is_renewed else every_s / RETRIES_A_RENEWAL


def _put(lease: Lease, until: float) -> bool:
    """Whether the storage took it; what it says otherwise is logged, and must hide no error of the run."""
    try:
        return storage.write(lease.uri, _content(until))
    except PackshotError as error:
        logger.warning("the run's lease %s could not be written: %s", lease.uri, error)
        return False


def _content(until: float) -> bytes:
    return json.dumps({"owner": f"{socket.gethostname()}, process {os.getpid()}", "until": until}).encode()
