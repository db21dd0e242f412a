"""One graph, two executors: equal rows and equal pixels, whatever the batch size and the placement."""

import gc
import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import catalogue
from pipelines.errors import ConfigError, InfrastructureError, TooManyUnexpected
from pipelines.executors import inline
from pipelines.executors.placement import LOCAL, Group
from pipelines.executors.worker import GroupWorker
from pipelines.night.manifest import to_parquet
from pipelines.pixels.images import encode
from pipelines.rows import FAILED, OK, REJECTED, to_table
from pipelines.storage import Store
from tests.fakes import POISON, FakeEncoder, a_graph, a_picture, a_recipe

TWO_GROUPS = (
    Group(("read", "detect", "segment", "mask"), batch_size=4),
    Group(("paint", "compose", "score", "judge", "deliver"), batch_size=2),
)
ONE_PROCESS = (replace(LOCAL[0], replicas=1),)
TIMES = {"seconds"}


def some_rows(folder, count=8, poisoned=()):
    """Pictures in a folder, one row each; a poisoned one breaks the detector."""
    table = {"sku": [], "image": [], "category": [], "colour": []}
    for number in range(count):
        picture = a_picture(number, (80 + 8 * number, 72))
        if number in poisoned:
            picture[0, 0] = POISON
        (folder / f"{number}.png").write_bytes(encode(picture, "png"))
        for name, value in {"sku": f"k{number}", "image": f"{number}.png", "category": "mug", "colour": "red"}.items():
            table[name].append(value)
    recipe = a_recipe(folder)
    made = catalogue.rows(recipe, pa.table(table), str(folder))
    return recipe, made


def without_times(table):
    columns = [name for name in table.column_names if name not in TIMES]
    return sorted(table.select(columns).to_pylist(), key=lambda row: row["item_key"])


def run_on_ray(graph, rows, placement, folder, max_unexpected=10):
    from pipelines.executors import data

    folder.mkdir()
    (folder / "rows.parquet").write_bytes(to_parquet(to_table(rows, graph.manifest_schema())))
    run_state = data.RunState.remote(len(rows), [node.name for node in graph.nodes])
    data.run(
        graph,
        placement,
        str(folder / "rows.parquet"),
        str(folder / "parts"),
        run_state,
        max_unexpected,
    )
    return pa.concat_tables(
        [pq.read_table(io.BytesIO(path.read_bytes())) for path in sorted((folder / "parts").glob("*.parquet"))]
    )


def test_no_rows_give_an_empty_table_with_every_column(tmp_path):
    graph = a_graph(a_recipe(tmp_path))

    assert inline.run(graph, []) == []


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batch_size_changes_no_pixel(tmp_path, batch_size):
    recipe, rows = some_rows(tmp_path)
    graph = a_graph(recipe, Store(str(tmp_path / "out")))
    schema = graph.manifest_schema()

    together = to_table(inline.run(graph, rows, batch_size=4), schema)

    assert without_times(to_table(inline.run(graph, rows, batch_size=batch_size), schema)) == without_times(together)
    assert set(together["status"].to_pylist()) == {OK}
    assert set(np.concatenate(together["changed_outside"].to_pylist()).tolist()) == {0, None}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, local_ray):
    """A run of eight rows, of which one broke, in two processes: its graph, rows, folder and table."""
    folder = tmp_path_factory.mktemp("finished")
    recipe, rows = some_rows(folder, poisoned={5})
    graph = a_graph(recipe, Store(str(folder / "out")))
    return graph, rows, folder / "run", run_on_ray(graph, rows, LOCAL, folder / "run")


def test_inline_and_ray_data_give_equal_rows_and_pixels_in_any_placement(tmp_path, finished):
    graph, rows, _, one_group = finished

    here = to_table(inline.run(graph, rows), graph.manifest_schema())
    two_groups = run_on_ray(graph, rows, TWO_GROUPS, tmp_path / "two")

    # tracebacks name other callers; everything else is equal
    plain = [[{**row, "detail": None} for row in without_times(table)] for table in (here, one_group, two_groups)]
    assert plain[0] == plain[1] == plain[2]
    failed = [row["item_key"] for row in plain[0] if row["status"] == FAILED]
    assert failed == ["k5"]
    assert one_group.schema.equals(graph.manifest_schema())


def test_column_without_any_value_keeps_its_type(tmp_path, local_ray):
    recipe, rows = some_rows(tmp_path, count=2)
    graph = a_graph(recipe, Store(str(tmp_path / "out")))

    nothing = run_on_ray(graph, [{**row, "find_prompt": "nothing"} for row in rows], TWO_GROUPS, tmp_path / "none")

    assert nothing.schema.equals(graph.manifest_schema())
    assert nothing["status"].to_pylist() == [REJECTED, REJECTED]
    assert nothing["reason"].to_pylist() == ["nothing_found", "nothing_found"]


def test_run_that_was_stopped_elsewhere_stops_while_it_paints(tmp_path, local_ray):
    from pipelines.executors import data

    recipe, rows = some_rows(tmp_path, count=4)
    graph = a_graph(recipe, Store(str(tmp_path / "out")))
    (tmp_path / "rows.parquet").write_bytes(to_parquet(to_table(rows, graph.manifest_schema())))
    run_state = data.RunState.remote(len(rows), [node.name for node in graph.nodes])
    run_state.stop.remote(InfrastructureError("the lease lapsed"))

    with pytest.raises(InfrastructureError, match="the lease lapsed"):
        data.run(graph, ONE_PROCESS, str(tmp_path / "rows.parquet"), str(tmp_path / "parts"), run_state)
    assert not list((tmp_path / "parts").glob("*.parquet"))


def test_ray_starts_one_actor_to_read_one_footer_and_its_switches_come_back(finished):
    import ray.data
    from ray.data._internal.datasource_v2.formats.parquet import footer_file_indexer

    from pipelines.executors import data

    context = ray.data.DataContext.get_current()

    assert footer_file_indexer._DEFAULT_NUM_ACTORS == 1
    assert {name: getattr(context, name) for name in data.SWITCHES} != data.SWITCHES
    assert context.enable_progress_bars


def test_more_unexpected_failures_than_allowed_stop_the_run(tmp_path, local_ray):
    recipe, rows = some_rows(tmp_path, count=4, poisoned={0, 1, 2})
    graph = a_graph(recipe, Store(str(tmp_path / "out")))

    with pytest.raises(TooManyUnexpected, match="`max_unexpected` allows 2"):
        inline.run(graph, rows, max_unexpected=2)
    with pytest.raises(TooManyUnexpected, match="`max_unexpected` allows 2"):
        run_on_ray(graph, rows, ONE_PROCESS, tmp_path / "stopped", max_unexpected=2)
    assert [row["status"] for row in inline.run(graph, rows, max_unexpected=3)] == [FAILED] * 3 + [OK]


class HoldsTwoPictures(FakeEncoder):
    """An encoder on a device with room for two pictures, called with four, as adapters do."""

    def embed_images(self, images):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes.")


def test_memory_that_runs_out_ends_the_run_with_the_setting_that_helps_and_fails_no_row(tmp_path):
    _, rows = some_rows(tmp_path)
    graph = a_graph(a_recipe(tmp_path, score={"call_size": 4}), fakes={"score": {"encoder": HoldsTwoPictures()}})

    with pytest.raises(InfrastructureError, match=r"ran out in `score` .*; lower `score\.call_size`, now 4, or give"):
        inline.run(graph, rows)


def test_gpus_that_are_not_there_are_refused_before_anything_waits(tmp_path, local_ray):
    recipe, rows = some_rows(tmp_path, count=1)
    graph = a_graph(recipe)

    with pytest.raises(ConfigError, match="asks for 1 GPUs and the cluster has 0"):
        run_on_ray(graph, rows, (replace(ONE_PROCESS[0], gpus=1),), tmp_path / "gpu")
    with pytest.raises(ConfigError, match="would hang"):
        run_on_ray(graph, rows, (replace(ONE_PROCESS[0], cpus=64),), tmp_path / "cpu")


def test_a_run_that_has_to_wait_for_others_says_so(local_ray, caplog):
    import ray

    from pipelines.executors.data import preflight

    gc.collect()  # the error of a run that was stopped may hold its actors, and they their CPUs
    others = ray.util.placement_group([{"CPU": ray.cluster_resources()["CPU"] - 1}])
    ray.get(others.ready(), timeout=120)
    preflight(ONE_PROCESS)
    ray.util.remove_placement_group(others)

    assert "are free: the run waits until other jobs" in caplog.text


def test_worker_runs_its_own_nodes_only(tmp_path):
    recipe, rows = some_rows(tmp_path, count=2)

    done = GroupWorker(a_graph(recipe), ["read", "detect"])(rows)

    assert set(done[0]["seconds"]) == {"read", "detect"}


def test_worker_reports_the_rows_that_a_node_had_work_with_apart_from_those_that_passed_it_by(tmp_path):
    recipe, rows = some_rows(tmp_path, count=3)
    rows[0] |= {"status": REJECTED, "reason": "nothing_found", "node": "detect"}
    rows[1] |= {"start_at": "segment"}
    told = []

    GroupWorker(a_graph(recipe), ["read", "detect"], lambda progress: told.append(progress) or 0)(rows)

    assert [(progress.node, progress.rows, progress.worked) for progress in told] == [("read", 3, 2), ("detect", 3, 1)]
