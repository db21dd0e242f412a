"""The KubeRay documents against KubeRay's own CRDs, and the Serve configuration against what it starts."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve.run import ServerSettings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "infra" / "kuberay").glob("*.yaml"))
VARIABLE = "PACKSHOT_KUBERAY_CRDS"


def crd_folder() -> Path:
    given = os.environ.get(VARIABLE)
    folder = Path(given) if given else ROOT.parent / "shared" / "data" / "kuberay-crds"
    if not folder.is_dir():
        message = (
            f"{folder} is not there; {VARIABLE} names a folder with KubeRay's CRDs (config/crd/bases of its repository)"
        )
        if given:
            pytest.fail(message)
        pytest.skip(message)
    return folder


@cache
def schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """`(apiVersion, kind)` -> what such a document may hold, and nothing else."""
    found = {}
    for path in crd_folder().glob("*.yaml"):
        crd = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)  # in pure Python these take half a minute
        for version in crd["spec"]["versions"]:
            name = f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]
            found[name] = {**strict(version["schema"]["openAPIV3Schema"]), "required": ["metadata", "spec"]}
    return found


def strict(schema: Any) -> Any:
    """The schema with every object closed, but those that say that they keep what they do not know."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        name: {field: strict(one) for field, one in value.items()} if name == "properties" else strict(value)
        for name, value in schema.items()
    }
    if "properties" in closed and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def problems(document: dict[str, Any]) -> list[str]:
    kind = document["apiVersion"], document["kind"]
    assert kind in schemas(), f"{kind} is in none of the CRDs"
    validator = jsonschema.Draft202012Validator(schemas()[kind])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def load(path: Path) -> dict[str, Any]:
    (document,) = yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader)
    return document  # type: ignore[no-any-return]


def test_there_are_documents() -> None:
    assert [path.name for path in DOCUMENTS] == ["rayjob.yaml", "rayservice.yaml"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_field_is_one_that_kuberay_knows(path: Path) -> None:
    assert problems(load(path)) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_misspelt_field_is_caught_at_any_depth(path: Path) -> None:
    document = load(path)
    spec = document["spec"]
    cluster = "rayClusterSpec" if "rayClusterSpec" in spec else "rayClusterConfig"
    places = [
        lambda broken: broken["spec"],
        lambda broken: broken["spec"][cluster],
        lambda broken: broken["spec"][cluster]["workerGroupSpecs"][0],
        lambda broken: broken["spec"][cluster]["headGroupSpec"]["template"]["spec"]["containers"][0],
    ]

    for place in places:
        broken = copy.deepcopy(document)
        place(broken)["shutdownAfterJobFinish"] = True
        assert any("'shutdownAfterJobFinish' was unexpected" in problem for problem in problems(broken))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_ray_asks_for_a_token_and_pods_are_not_root(path: Path) -> None:
    spec = load(path)["spec"]
    cluster = spec.get("rayClusterSpec") or spec["rayClusterConfig"]

    assert cluster["authOptions"]["mode"] == "token"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert all(container["resources"]["limits"]["memory"] for container in pod["containers"])


def test_the_job_calls_a_command_that_exists() -> None:
    from typer.testing import CliRunner

    from jobs.cli import app

    program, command, *arguments = load(ROOT / "infra/kuberay/rayjob.yaml")["spec"]["entrypoint"].split()
    helped = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})

    assert program == "packshot"
    assert helped.exit_code == 0
    assert all(argument in helped.output for argument in arguments if argument.startswith("--"))


def test_the_serve_configuration_is_one_that_serve_knows_and_starts_what_exists() -> None:
    config = yaml.safe_load(load(ROOT / "infra/kuberay/rayservice.yaml")["spec"]["serveConfigV2"])

    parsed = ServeDeploySchema.model_validate(config)
    (application,) = parsed.applications
    module, _, name = application.import_path.partition(":")
    builder = getattr(importlib.import_module(module), name)

    # Serve takes misspelt fields without a word, so their names are compared here.
    assert set(config) <= set(ServeDeploySchema.model_fields)
    assert set(config["applications"][0]) <= set(type(application).model_fields)
    assert set(config["http_options"]) <= set(type(parsed.http_options).model_fields)
    # Serve makes the arguments into a `ServerSettings` by this annotation, which must be a class and no text.
    assert [one.annotation for one in inspect.signature(builder).parameters.values()] == [ServerSettings]
    assert ServerSettings.model_validate(application.args).recipes == ("replace",)
