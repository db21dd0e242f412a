"""A server without Ray: the real application over the real graph with fake models, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from fastapi.testclient import TestClient

from pipelines.errors import ConfigError, InfrastructureError, PackshotError
from pipelines.executors.placement import LOCAL
from pipelines.graph import Graph
from pipelines.pixels.images import encode
from pipelines.recipe import Recipe
from pipelines.rows import Row
from pipelines.stages import StageClass
from pipelines.stages.detect import Detect
from serve.app import MAX_BODY_BYTES, build_app
from serve.executor import BatchWorker
from serve.served import with_hashes
from tests.fakes import a_graph, a_picture, a_recipe

PNG = encode(a_picture(0), "png")
FORM: dict[str, Any] = {"find": "a cup", "prompt": "a red cup"}


class Refusing:
    """A stage that cannot be built, since its settings do not go together."""

    error: ClassVar[Exception] = ConfigError("these settings do not go together")
    reads: ClassVar[dict[str, pa.DataType]] = {}
    may_read: ClassVar[dict[str, pa.DataType]] = {}
    adds: ClassVar[dict[str, pa.DataType]] = {
        **Detect.adds,
        "variant_seeds": pa.list_(pa.int64()),
        "variant_crops": pa.list_(pa.large_binary()),
    }
    pixels_version = 1

    def __init__(self, settings: object, **given: object) -> None:
        raise self.error


class Broken(Refusing):
    """A stage that cannot be built, since it has a bug."""

    error = ValueError("no such sampler")


class Lost(Refusing):
    """A stage that cannot be built, since its weights are not there."""

    error = InfrastructureError("the weights are gone")


class RefusingRows(Refusing):
    """A stage that finds out while it runs that its settings do not go together."""

    def __init__(self, settings: object, **given: object) -> None:
        pass

    def __call__(self, rows: Sequence[Row]) -> list[Any]:
        raise self.error


class LosingItsStore(RefusingRows):
    """A stage whose storage goes away while it runs."""

    error = InfrastructureError("the store does not answer")


def a_picky_graph(recipe: Recipe, stage: StageClass = Refusing) -> Graph:
    """The fakes' graph, but where paint has 7 steps, or detect a score of 0.77, this stage is in its place."""
    refusing = {"paint": recipe.paint.steps == 7, "detect": recipe.detect.min_score == 0.77}
    nodes = a_graph(recipe).nodes
    return Graph(tuple(replace(node, stage=stage) if refusing.get(node.name) else node for node in nodes))


class Rendering:
    """Renders a row on fakes and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Row, Recipe]] = []

    async def __call__(self, row: Row, recipe: Recipe) -> Row:
        self.asked.append((row, recipe))
        (done,) = BatchWorker(LOCAL, 0, a_graph)([(row, recipe)])
        if isinstance(done, PackshotError):
            raise done
        return done


class Raising:
    """Renders nothing: every row ends in an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def __call__(self, row: Row, recipe: Recipe) -> Row:
        raise self.error


async def is_ready() -> bool:
    return True


async def is_not_ready() -> bool:
    return False


def a_client(
    folder: Path,
    render: Any = None,
    recipes: Sequence[Recipe] = (),
    ready: Any = is_ready,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> TestClient:
    """A client of a server with the fakes' recipe; a bug comes back as an answer, as it would over a wire."""
    served = with_hashes(recipes or [a_recipe(folder)])
    app = build_app(served, render or Rendering(), ready, max_body_bytes)
    return TestClient(app, raise_server_exceptions=False)


def post(client: TestClient, image: bytes = PNG, files: Sequence[tuple[str, bytes]] = (), **form: Any) -> Any:
    """A render request; without a form it asks for a red cup."""
    parts = [("image", ("photo.png", image)), *((name, (f"{name}.png", data)) for name, data in files)]
    return client.post("/v1/renders", files=parts, data=form or FORM)


def error_of(response: Any) -> tuple[int, str, str]:
    """Status, code and message of an error; its shape is checked on the way."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert all(body["error"].values())
    return response.status_code, body["error"]["code"], body["error"]["message"]
