"""The real server on a real Ray, with fake models: what only processes and HTTP can show."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import ray
from ray import serve

from pipelines import catalogue
from pipelines.errors import ConfigError
from pipelines.executors import inline
from pipelines.executors.placement import GPU, LOCAL
from pipelines.pixels.images import encode
from pipelines.recipe import Recipe
from serve import run as server
from serve.served import with_hashes
from tests.fakes import POISON, SLOW, a_graph, a_picture, a_recipe
from tests.serve.clients import a_picky_graph, error_of


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def ray_here(local_ray: None) -> Iterator[None]:
    yield
    serve.shutdown()  # its port is chosen once a Serve; other modules have theirs


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return a_recipe(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def two_hops(ray_here: None, recipe: Recipe) -> str:
    """The `gpu` placement's groups, on CPUs, by the port that Serve has once and for all."""
    placement = tuple(replace(group, gpus=0, cpus=0.5, batch_size=2) for group in GPU)
    return server.start(with_hashes([recipe]), placement, port=a_free_port(), blocking=False, graph_of=a_picky_graph)


def pictures(count: int) -> list[bytes]:
    drawn = [a_picture(seed, (96 + 8 * seed, 80)) for seed in range(count)]
    if count > 2:
        drawn[2][0, 0] = POISON
    return [encode(picture, "png") for picture in drawn]


def send(url: str, image: bytes, **form: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/renders", files={"image": image}, data=form, timeout=60)


def test_eight_requests_at_once_get_what_inline_makes(two_hops: str, recipe: Recipe) -> None:
    images = pictures(8)
    columns = {"sku": [str(number) for number in range(8)], "category": ["cup"] * 8, "colour": ["red"] * 8}
    table = pa.table({**columns, "given_image_bytes": pa.array(images, pa.large_binary())})
    expected = inline.run(a_graph(recipe), catalogue.rows(recipe, table, None))

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda image: send(two_hops, image, find="cup", prompt="a red cup"), images))

    for row, response in zip(expected, responses, strict=True):
        if row["status"] == "failed":
            assert error_of(response)[:2] == (500, "unexpected")
        else:
            answer = response.json()
            assert [variant["sha256"] for variant in answer["variants"]] == row["image_sha256s"]
            assert answer["item"]["mask"] == row["allow_mask_rle"]


@pytest.mark.parametrize("section", [{"paint": {"steps": 7}}, {"detect": {"min_score": 0.77}}])
def test_settings_that_a_worker_refuses_are_422_from_either_hop(two_hops: str, recipe: Recipe, section: Any) -> None:
    picky = recipe.model_dump(mode="json", exclude_unset=True)
    for name, settings in section.items():
        picky[name] |= settings

    response = send(two_hops, pictures(1)[0], find="cup", prompt="a cup", recipe=json.dumps(picky))

    assert error_of(response) == (422, "bad_recipe", "these settings do not go together")


def test_health_is_ready_once_it_listens(two_hops: str) -> None:
    response = httpx.get(f"{two_hops}/health", timeout=10)

    assert (response.status_code, response.json()["status"]) == (200, "ready")


def test_too_much_at_once_is_503_with_retry_after_and_the_rest_is_rendered(two_hops: str) -> None:
    image = pictures(1)[0]

    with ThreadPoolExecutor(60) as pool:
        responses = list(pool.map(lambda _: send(two_hops, image, find=SLOW, prompt="a cup"), range(60)))

    codes = [response.status_code for response in responses]
    assert set(codes) == {200, 503}
    refused = next(response for response in responses if response.status_code == 503)
    assert error_of(refused)[1] == "busy"
    assert int(refused.headers["retry-after"]) > 0


def test_a_worker_that_dies_is_a_503_and_comes_back(two_hops: str, recipe: Recipe) -> None:
    image = pictures(1)[0]
    killed = [name for name in _replicas() if "paint" in name["name"]]

    ray.kill(ray.get_actor(**killed[0]), no_restart=False)
    codes = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        codes.add(send(two_hops, image, find="cup", prompt="a cup").status_code)
        if 200 in codes:
            break
        time.sleep(0.5)

    assert 200 in codes
    assert codes <= {200, 503}


def _replicas() -> list[dict[str, str]]:
    return [actor for actor in ray.util.list_named_actors(all_namespaces=True) if "SERVE_REPLICA" in actor["name"]]


def test_more_gpus_than_there_are_is_told_before_anything_hangs(ray_here: None, recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match=r"asks for 1 GPUs and the cluster has 0.*--placement local"):
        server.start(with_hashes([recipe]), GPU, port=a_free_port(), blocking=False, graph_of=a_graph)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_signal_at_the_first_sign_of_health_ends_a_server_of_its_own_and_leaves_nothing_behind(
    recipe: Recipe, tmp_path: Path
) -> None:
    port = a_free_port()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "tests.serve.a_server", str(tmp_path), str(port)]
    said = tmp_path / "said"
    with said.open("w") as stderr, subprocess.Popen(command, env=environment, stderr=stderr) as process:
        while process.poll() is None and not _answers(port):
            time.sleep(0.02)

        process.send_signal(signal.SIGTERM)  # at once: who watches the health may do so

    assert process.returncode == 0, said.read_text()
    assert "stopping" in said.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")


def test_a_port_that_is_taken_is_told(recipe: Recipe) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}"):
            server.start(with_hashes([recipe]), LOCAL, port=port, blocking=False, graph_of=a_graph)
