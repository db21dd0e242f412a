"""Start the server on this machine or on a cluster, and stop it again."""

# Serve reads the annotation of `build` as a class, so annotations here must not be turned into text.

import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.executors import placement as placements
from pipelines.executors.placement import LOCAL_CPUS, Placement, check_fits
from pipelines.graph import build as build_graph
from pipelines.recipe import DEFAULT_RECIPE
from serve.app import MAX_BODY_BYTES, application
from serve.executor import GraphOf, online
from serve.served import Served, offer

logger = logging.getLogger(__name__)

NAME = "packshot"

# After 5 seconds Serve takes a proxy for dead and starts another; on a busy laptop importing it takes longer, for ever.
PATIENT = {"runtime_env": {"env_vars": {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}}}


class ServerSettings(BaseModel):
    """What a server is started with, as a RayService's `args` give it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: tuple[str, ...] = Field((DEFAULT_RECIPE,), description="Names or paths; their weights alone may be used.")
    placement: str = Field("local", description="local (two processes, each the whole graph) or gpu (two hops).")
    max_body_bytes: int = Field(MAX_BODY_BYTES, gt=0, description="Larger requests are refused. Bytes.")


def build(settings: ServerSettings) -> serve.Application:
    """The application for `serve run`, `serve deploy` and KubeRay: `import_path: serve.run:build`."""
    placement = placements.named(settings.placement)
    return application(offer(settings.recipes), placement, max_body_bytes=settings.max_body_bytes)


def run(
    recipe_names: Sequence[str], placement: str, host: str = "127.0.0.1", port: int = 8000, blocking: bool = True
) -> str:
    """Start Ray if there is none, deploy, and wait until every model is loaded.

    There are no API keys yet: whoever reaches `host` may render.

    Args:
        recipe_names: ready recipes' names or paths of YAML files; the first is for requests that name none.
        placement: a shipped placement's name.
        host: address to listen on.
        port: port to listen on.
        blocking: stay until SIGINT or SIGTERM, then stop the server; otherwise `stop` does.

    Returns:
        The server's URL.

    Raises:
        ConfigError: a recipe or placement that cannot be, a port that is taken, or too few CPUs or GPUs.
        InfrastructureError: weights are not there, or the models could not be started.
    """
    return start(offer(recipe_names), placements.named(placement), host, port, blocking)


def start(
    served: Served,
    placement: Placement,
    host: str = "127.0.0.1",
    port: int = 8000,
    blocking: bool = True,
    graph_of: GraphOf = build_graph,
) -> str:
    """As `run`, for recipes and a placement that were made by hand; `graph_of` says what a recipe's graph is."""
    _check_port(host, port)
    app = application(served, placement, graph_of)
    started_ray = not ray.is_initialized()
    if started_ray:
        start_ray()
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    said = f"rendering {', '.join(served.names)} at {url}/v1/renders"
    with _signals_ask() if blocking else nullcontext():  # from before anyone can see that the server runs
        try:
            _preflight(placement)
            serve.start(http_options={"host": host, "port": port}, controller_options=PATIENT)
            _deploy(app)
            logger.info(f"{said}; stop with Ctrl-C" if blocking else said)
            while blocking:
                signal.pause()
        except _AskedToStop:
            logger.info("stopping")
        except BaseException:
            stop(started_ray)
            raise
        if blocking:
            stop(started_ray)
    return url


def stop(ray_too: bool = False) -> None:
    """Take the server down; with `ray_too`, the Ray that was started for it as well."""
    if ray_too:
        serve.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it so
        ray.shutdown()
    elif ray.is_initialized():
        serve.delete(NAME)


def start_ray() -> None:
    """Join the cluster that RAY_ADDRESS names, or start our own on this machine, guarded by Ray's token."""
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
        return
    cpus = max(LOCAL_CPUS, os.cpu_count() or 0)
    # Not just any Ray that happens to run here: a job's may end at any time.
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, logging_level=logging.WARNING)


def _deploy(app: serve.Application) -> None:
    try:
        serve.run(app, name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise InfrastructureError(f"the models could not be started: {error}") from error


def _preflight(placement: Placement) -> None:
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it so
    # Serve's own actors take no CPU.
    check_fits(online(placement), there.get("CPU", 0), there.get("GPU", 0), cpus_beside=0)


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        message = f"cannot listen on {host}:{port} ({error.strerror or error}); give another `--host` or `--port`"
        raise ConfigError(message) from error


class _AskedToStop(BaseException):
    """SIGINT or SIGTERM came; as KeyboardInterrupt does, it passes by whatever catches errors."""


@contextmanager
def _signals_ask() -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM raises `_AskedToStop`, while models load, too; so the server ends in order.

    After it SIGTERM does nothing more, and SIGINT breaks off.
    """
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise _AskedToStop
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    # Behind `ray.init`, which takes SIGTERM for itself and would abort the process.
    before = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
