"""The doctor on weights that cannot be used, and on a narrow terminal."""

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from pipelines.models.checkpoints import weights_hash
from pipelines.strict import Checkpoint
from tests.models.tiny import write_detector, write_encoder, write_painter, write_segmenter


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_detector(folder / "detect")
    write_segmenter(folder / "segment")
    write_painter(folder / "paint")
    write_encoder(folder / "score")
    return folder


@pytest.fixture
def weights(originals, tmp_path):
    """A folder of weights a role, to be harmed."""
    return shutil.copytree(originals, tmp_path / "a-folder-whose-name-is-longer-than-a-narrow-terminal-would-like")


def recipe_of(weights, **pins):
    nodes = ("detect", "segment", "paint", "score")
    sections = {node: {"checkpoint": f"{weights / node}{pins.get(node, '')}"} for node in nodes}
    path = weights.parent / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "r", "models": "own", "prompts": {"paint": "a shirt"}, **sections}))
    return str(path)


def packshot(*words):
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80"})


def test_unpinned_folders_are_ok_and_get_the_whole_line_that_pins_them(weights):
    done = packshot("doctor", "--recipe", recipe_of(weights))
    pins = {
        node: f"#sha256={weights_hash(Checkpoint(uri=str(weights / node)))}"
        for node in ("detect", "segment", "paint", "score")
    }

    assert done.exit_code == 0, done.output
    for node, pin in pins.items():
        assert f"write {weights / node}{pin}\n" in done.output
    again = packshot("doctor", "--recipe", recipe_of(weights, **pins))
    assert again.exit_code == 0
    assert "not pinned" not in again.output


def test_weights_that_cannot_be_loaded_are_not_ok(weights):
    shutil.rmtree(weights / "detect")
    (weights / "detect").mkdir()
    (weights / "segment" / "config.json").write_text(json.dumps({"architectures": ["BiRefNet"]}))
    (weights / "paint" / "tokenizer" / "tokenizer.json").unlink()
    (weights / "score" / "model.safetensors").rename(weights / "score" / "pytorch_model.bin")
    recipe = recipe_of(weights)

    doctor = packshot("doctor", "--recipe", recipe, "--json")
    check = packshot("recipe", "check", recipe)

    said = {one["check"]: one["to_do"] for one in json.loads(doctor.stdout)["findings"] if not one["ok"]}
    assert doctor.exit_code == check.exit_code == 2
    assert "is empty" in said["weights of detect"]
    assert "is a model of type 'BiRefNet'" in said["weights of segment"]
    assert "tokenizer" in said["weights of paint"]
    assert "a pickle, which is only read when its hash is pinned" in said["weights of score"]
    for one in said.values():
        assert one in check.stderr
    assert check.stdout.rstrip().endswith("# this recipe is sound; its weights cannot be used here")


def test_recipe_check_says_that_good_weights_can_be_used(weights):
    done = packshot("recipe", "check", recipe_of(weights))

    assert done.exit_code == 0, done.output
    assert done.stdout.rstrip().endswith("# this recipe can be used")
