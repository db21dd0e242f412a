"""What a process of merged groups takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import ConfigError
from pipelines.executors.placement import GPU, LOCAL, LOCAL_CPUS, Group, Placement, check_fits, fitted, memory_of
from serve.executor import online
from tests.fakes import a_graph, a_recipe

GB = 10**9
WORDS = {"prompts": {"find": "{category}", "paint": "a {category}"}}


def told(*memory_bytes: int | None) -> Placement:
    """The placement `gpu`, whose groups say what they take, and wait the longer the later they come."""
    return tuple(
        replace(group, memory_bytes=size, wait_s=0.1 * number)
        for number, (group, size) in enumerate(zip(GPU, memory_bytes, strict=True))
    )


def test_groups_that_become_one_take_the_memory_of_all_and_wait_as_long_as_the_most_patient(tmp_path: Path) -> None:
    chained = a_graph(a_recipe(tmp_path, steps=[WORDS, WORDS]))

    read, painting, deliver = fitted(told(GB, 3 * GB, 5 * GB, 2 * GB), chained)

    assert painting.nodes[0] == "detect"
    assert painting.nodes[-1] == "judge"
    assert (painting.memory_bytes, painting.wait_s) == (8 * GB, pytest.approx(0.2))
    assert (read.memory_bytes, deliver.memory_bytes) == (GB, 2 * GB)


def test_groups_that_stay_apart_keep_what_they_say(tmp_path: Path) -> None:
    placement = told(GB, 3 * GB, 5 * GB, None)

    made = fitted(placement, a_graph(a_recipe(tmp_path)))

    assert [(one.memory_bytes, one.wait_s) for one in made] == [(one.memory_bytes, one.wait_s) for one in placement]


def test_node_that_no_group_names_joins_the_node_before_it(tmp_path: Path) -> None:
    graph = a_graph(a_recipe(tmp_path))
    without = tuple(replace(one, nodes=tuple(set(one.nodes) - {"mask", "compose", "deliver"})) for one in GPU)

    made = [one.nodes for one in fitted(without, graph)]

    finding, painting = ("detect", "segment", "mask"), ("paint", "compose", "score", "judge", "deliver")
    assert made == [("read",), finding, painting]


def test_by_day_a_group_takes_its_neighbour_s_memory_along_and_waits_as_before() -> None:
    first, second = online(told(GB, 3 * GB, 5 * GB, 2 * GB))

    assert (first.memory_bytes, first.wait_s) == (4 * GB, pytest.approx(0.1))
    assert (second.memory_bytes, second.wait_s) == (7 * GB, pytest.approx(0.2))


def test_memory_that_nobody_states_is_unknown_and_not_nothing() -> None:
    silent, told_of = Group(("read",)), Group(("paint",), memory_bytes=GB)

    assert memory_of((silent, silent)) is None
    assert memory_of((silent, told_of)) == GB


def test_placement_that_would_wait_for_ever_is_refused_with_what_is_there() -> None:
    check_fits(LOCAL, cpus=LOCAL_CPUS, gpus=0)
    check_fits(LOCAL, cpus=LOCAL_CPUS - 2, gpus=0, cpus_beside=0)

    with pytest.raises(ConfigError, match=r"needs 4 CPUs \(2 of them for Ray's own .*\); the cluster has 3"):
        check_fits(LOCAL, cpus=LOCAL_CPUS - 1, gpus=0)
    with pytest.raises(ConfigError, match=r"asks for 1 GPUs and this machine has 0; .*`--placement local`"):
        check_fits(GPU, cpus=64, gpus=0, there="this machine")
