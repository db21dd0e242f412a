"""Inline, on Ray Data and over HTTP, the embedded models make the same masks and the same pixels."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import httpx
import pytest
from ray import serve

from pipelines.executors import inline
from pipelines.executors.placement import LOCAL
from pipelines.graph import build
from pipelines.rows import Row
from pipelines.storage import Store
from serve import run as server
from serve.served import with_hashes
from tests.eight_rows import (
    ABSENT,
    EMPTY_MASK,
    MASKED,
    REFERRED,
    SEEDED,
    TRUNCATED,
    eight_forms,
    eight_items,
    eight_recipe,
    eight_rows,
    eight_rows_in,
)
from tests.executors.test_inline_and_data import run_on_ray
from tests.serve.clients import error_of


@pytest.fixture(scope="module")
def url(local_ray: None) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # One replica: two would load the models twice, and what two processes change Ray Data's test shows.
    placement = (replace(LOCAL[0], replicas=1),)
    yield server.start(with_hashes([eight_recipe()]), placement, port=port, blocking=False)
    serve.shutdown()


@cache
def inline_rows() -> list[Row]:
    return inline.run(build(eight_recipe()), eight_rows())


def send(url: str, number: int) -> httpx.Response:
    files, form = eight_forms()[number]
    return httpx.post(f"{url}/v1/renders", files=files, data=form, timeout=300)


def check(response: httpx.Response, row: Row) -> None:
    if row["status"] == "failed":
        assert error_of(response)[:2] == (422, row["reason"])
        return
    answer = response.json()
    assert (response.status_code, answer["status"], answer["reason"]) == (200, row["status"], row["reason"])
    assert answer["item"]["mask"] == row.get("allow_mask_rle")
    assert [variant["sha256"] for variant in answer["variants"]] == (row.get("image_sha256s") or [])
    assert [variant["seed"] for variant in answer["variants"]] == (row.get("variant_seeds") or [])


def test_the_eight_rows_are_of_all_kinds() -> None:
    rows = inline_rows()

    assert (rows[TRUNCATED]["status"], rows[TRUNCATED]["reason"]) == ("failed", "truncated_image")
    assert (rows[EMPTY_MASK]["status"], rows[EMPTY_MASK]["reason"]) == ("rejected", "empty_mask")
    assert rows[MASKED]["status"] == "ok"
    assert rows[MASKED]["changed_outside"] == [0, 0]
    assert rows[ABSENT]["status"] in ("ok", "rejected")  # as well as these models can tell
    assert sum(row["status"] == "ok" for row in rows) >= 3
    for number in (SEEDED, REFERRED):
        if rows[number]["status"] == "ok":
            assert (rows[number]["variant_seeds"] == [11, 12]) == (number == SEEDED)


def test_http_makes_the_pixels_that_inline_makes(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: send(url, number), range(len(eight_items()))))
    alone = send(url, MASKED)

    for response, row in zip(together, inline_rows(), strict=True):
        check(response, row)
    check(alone, inline_rows()[MASKED])
    assert together[MASKED].json()["world"] == "sample"


def test_ray_data_makes_the_pixels_that_inline_makes(local_ray: None, tmp_path: Path) -> None:
    recipe, rows = eight_rows_in(tmp_path)
    graph = build(recipe, Store(str(tmp_path / "out")))

    done = run_on_ray(graph, rows, LOCAL, tmp_path / "run").to_pylist()

    by_key = {row["item_key"]: row for row in done}
    for expected in inline_rows():
        row = by_key[expected["item_key"]]
        assert (row["status"], row["reason"]) == (expected["status"], expected["reason"])
        assert row["allow_mask_rle"] == expected.get("allow_mask_rle")
        assert row["image_sha256s"] == expected.get("image_sha256s")
