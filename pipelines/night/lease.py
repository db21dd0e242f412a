"""One process a run: the process that puts a run's lease first owns the run, and renews the lease while it works.

`runs/00000042/lease.json` is put only if absent, so of several processes that want a run number exactly one gets it.
Only the owner writes a run's files. If it dies, a later run takes over what it finished (`night.plan`); nobody goes on
with the dead run itself. A lease that was not renewed for `LEASE_S` has lapsed. A renewal that fails is tried again; an
owner whose lease lapsed all the same is stopped by `Lease.check`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from signal import SIGTERM

from pipelines import storage
from pipelines.errors import ConfigError, InfrastructureError, Missing, PackshotError

logger = logging.getLogger(__name__)

LEASE_S = 90.0
RENEWALS_A_LEASE = 4
RETRIES_A_RENEWAL = 4


class Owned(PackshotError):
    """Another process put this run's lease first; `digest` is that of its plan."""

    def __init__(self, digest: str) -> None:
        super().__init__("another process owns this run")
        self.digest = digest


@dataclass
class Lease:
    """A lease that this process holds: where it lies, and when it lapses (seconds since 1970) unless it is renewed.

    `on_lapse` is called once, from the renewing thread, when the lease could not be renewed in time.
    """

    uri: str
    until: float
    digest: str = ""
    on_lapse: Callable[[InfrastructureError], None] = field(default=lambda error: None)

    def check(self) -> None:
        """Do nothing while the lease is held.

        Raises:
            InfrastructureError: it lapsed, so another process may be doing the same work.
        """
        late_s = time.time() - self.until
        if late_s >= 0:
            raise self.lapsed(late_s)

    def lapsed(self, late_s: float) -> InfrastructureError:
        """The error of a lease that lapsed so many seconds ago."""
        return InfrastructureError(
            f"this run's lease {self.uri} could not be renewed and lapsed {late_s:.0f} s ago, so another process "
            "may be doing its work; nothing is published. Once the storage answers, the same command takes over "
            "what was finished"
        )


@dataclass(frozen=True)
class _Holder:
    """What a lease file says: who holds the lease, until when, and the digest of the plan."""

    owner: str
    until: float
    digest: str


@contextmanager
def held(run_uri: str, digest: str = "", lease_s: float = LEASE_S) -> Iterator[Lease]:
    """Own a run; its lease is renewed in the background and given up at the end, also on SIGTERM.

    Args:
        run_uri: the run's folder.
        digest: the digest of the plan; rivals read it.
        lease_s: how long the lease holds without being renewed; the same for every process of an output.

    Raises:
        Owned: another process put this run's lease before, whether it is alive or not.
    """
    lease = Lease(_uri(run_uri), time.time() + lease_s, digest)
    if not storage.write(lease.uri, _content(lease, lease.until), if_absent=True):
        holder = _holder(run_uri)
        raise Owned(holder.digest if holder else "")
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, lease_s, stop), name="lease", daemon=True)
    renewing.start()
    try:
        with _ended_by_sigterm():
            yield lease
    finally:
        stop.set()
        renewing.join()
        _put(lease, until=0.0)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that `finally` blocks run; a handler that somebody else set is kept."""
    is_ours = threading.current_thread() is threading.main_thread() and signal.getsignal(SIGTERM) is signal.SIG_DFL
    if is_ours:
        signal.signal(SIGTERM, lambda *_: sys.exit(128 + SIGTERM))
    try:
        yield
    finally:
        if is_ours:
            signal.signal(SIGTERM, signal.SIG_DFL)


def wait_for_the_dead(run_uri: str, look_every_s: float = 2.0) -> bool:
    """Wait until nobody works on this run: not at all if its lease was given up or has lapsed, else until it lapses.

    Returns:
        Whether there was anything to wait for.

    Raises:
        ConfigError: the lease is renewed meanwhile, so its holder is alive; the sentence names it.
    """
    first = holder = _holder(run_uri)
    waited = False
    while first and holder and (left_s := holder.until - time.time()) > 0:
        if holder.until > first.until:
            raise ConfigError(
                f"{holder.owner} is working on {run_uri}, and its lease is being renewed; one run at a time works on "
                "an output: wait for it to end, or stop it"
            )
        if not waited:
            logger.info(
                "%s held the lease of %s; waiting up to %.0f s to see whether it is alive",
                holder.owner,
                run_uri,
                left_s,
            )
            waited = True
        time.sleep(min(left_s, look_every_s))
        holder = _holder(run_uri)
    return waited


def _holder(run_uri: str) -> _Holder | None:
    """What the lease file says; None if there is none, or if this version cannot read it."""
    try:
        said = json.loads(storage.read(_uri(run_uri)))
        return _Holder(str(said["owner"]), float(said["until"]), str(said.get("digest", "")))
    except Missing:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        logger.warning("%s is no lease of this version; nobody is taken to hold it", _uri(run_uri))
        return None


def _renew(lease: Lease, lease_s: float, stop: threading.Event) -> None:
    every_s = wait_s = lease_s / RENEWALS_A_LEASE
    while not stop.wait(wait_s):
        until = time.time() + lease_s
        is_renewed = _put(lease, until)
        if time.time() >= lease.until:  # a renewal that came too late takes nothing back
            logger.error("the run's lease %s has lapsed; nothing will be published", lease.uri)
            lease.on_lapse(lease.lapsed(time.time() - lease.until))
            return
        if is_renewed:
            lease.until = until
        wait_s = every_s if is_renewed else every_s / RETRIES_A_RENEWAL


def _put(lease: Lease, until: float) -> bool:
    """Put the lease; whether that went well. An error is only logged, since it must not hide an error of the run."""
    try:
        return storage.write(lease.uri, _content(lease, until))
    except PackshotError as error:
        logger.warning("the run's lease %s could not be written: %s", lease.uri, error)
        return False


def _uri(run_uri: str) -> str:
    return storage.join(run_uri, "lease.json")


def _content(lease: Lease, until: float) -> bytes:
    owner = f"{socket.gethostname()}, process {os.getpid()}"
    return json.dumps({"owner": owner, "until": until, "digest": lease.digest}).encode()
