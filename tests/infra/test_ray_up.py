from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "infra" / "ray-up" / "cluster.yaml"


def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())  # type: ignore[no-any-return]


def test_ray_takes_the_cluster_file() -> None:
    validate_config(prepare_config(cluster()))


def test_ray_refuses_a_misspelt_field() -> None:
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config({**cluster(), "idle_timeout_minute": 5}))


def test_workers_are_spot_instances_and_the_head_is_not() -> None:
    types = cluster()["available_node_types"]

    assert types["gpu_spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["gpu_spot"]["resources"]["GPU"] == 1


def test_ray_starts_with_a_token_everywhere() -> None:
    commands = [*cluster()["head_start_ray_commands"], *cluster()["worker_start_ray_commands"]]

    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts)
