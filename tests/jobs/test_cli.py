"""Bad input: a plain message, no traceback, the right exit code. And the commands' JSON."""

import json

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from pipelines import recipe as recipes
from pipelines.evaluation.embedded import BARS
from pipelines.pixels.images import encode

RECIPE = {"name": "r", "models": "embedded", "prompts": {"find": "{category}", "paint": "a {colour} {category}"}}


@pytest.fixture
def folder(tmp_path):
    """A catalogue of two pictures as CSV, and a recipe."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(encode(np.full((64, 64, 3), 200, np.uint8), "png"))
    table = pa.table({"sku": ["1", "2"], "image": ["a.png", "b.png"], "category": ["mug"] * 2, "colour": ["red"] * 2})
    pyarrow.csv.write_csv(table, tmp_path / "products.csv")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def packshot(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*words):
    code, _, told = packshot(*words)
    assert code == 2
    assert "Traceback" not in told
    return " ".join(told.split())


def plan_of(folder, *more, table="products.csv"):
    return ("plan", folder / table, "--recipe", folder / "recipe.yaml", "--output", folder / "out", *more)


def with_recipe(folder, **sections):
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **sections}))


def with_rows(folder, **columns):
    pyarrow.csv.write_csv(pa.table(columns), folder / "products.csv")


def test_unknown_recipe_key_names_the_nearest(folder):
    with_recipe(folder, detect={"min_scor": 0.2})

    assert "did you mean `min_score`?" in refused(*plan_of(folder))


def test_missing_template_column_names_setting_and_nearest_column(folder):
    with_rows(folder, sku=["1"], image=["a.png"], categori=["mug"], colour=["red"])

    told = refused(*plan_of(folder))

    assert "prompts.find" in told
    assert "categori" in told


def test_one_key_twice_is_named(folder):
    with_rows(folder, sku=["1", "1"], image=["a.png", "b.png"], category=["mug"] * 2, colour=["red"] * 2)

    assert "'1'" in refused(*plan_of(folder))


def test_no_items_is_an_error(folder):
    (folder / "empty").mkdir()
    with_rows(folder, sku=pa.array([], pa.string()), image=[], category=[], colour=[])

    assert "no item" in refused(*plan_of(folder)).lower() or "empty" in refused(*plan_of(folder)).lower()


def test_missing_catalogue_is_named(folder):
    assert "nowhere.csv" in refused(*plan_of(folder, table="nowhere.csv"))


def test_checkpoint_that_is_not_there_is_named(folder):
    with_recipe(folder, detect={"checkpoint": "/nowhere/detector.safetensors"})

    assert "/nowhere/detector.safetensors" in refused(*plan_of(folder, "--allow-embedded"))


def test_embedded_models_stay_in_their_world_unless_allowed(folder):
    assert "--allow-embedded" in refused(*plan_of(folder))

    code, out, _ = packshot(*plan_of(folder, "--allow-embedded", "--json"))
    assert code == 0
    assert json.loads(out)["counts"] == {"planned": 2, "keep": 0, "render": 2, "pending": 0, "from_read": 2}


def test_limit_renders_so_many_and_leaves_the_rest_pending(folder):
    _, out, _ = packshot(*plan_of(folder, "--allow-embedded", "--json", "--limit", 1))

    assert json.loads(out)["counts"] == {"planned": 2, "keep": 0, "render": 1, "pending": 1, "from_read": 1}


def test_plan_tells_what_the_run_will_take_and_what_nobody_can_know(folder):
    size = sum((folder / f"{name}.png").stat().st_size for name in ("a", "b"))

    _, out, _ = packshot(*plan_of(folder, "--allow-embedded", "--json", "--placement", "gpu"))
    _, text, _ = packshot(*plan_of(folder, "--allow-embedded", "--placement", "gpu"))

    told = json.loads(out)
    assert (told["bytes_to_read"], told["not_listed"], told["expected_s"]) == (size, 0, None)
    assert (told["cpus"], told["gpus"]) == (8, 1)
    assert "to read: 0.0 MB" in text
    assert "time: unknown" in text
    assert "asks for 8 CPUs (2 of them for Ray's own reads and writes) and 1 GPUs at once" in text


def test_bucket_that_does_not_exist_or_refuses_is_told_plainly(folder, s3, monkeypatch):
    from pipelines import storage

    told = refused(
        "plan", "s3://no-such-bucket-here/products.csv", "--recipe", folder / "recipe.yaml", "--output", folder / "out"
    )
    assert "no-such-bucket-here" in told

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage.client.cache_clear()
    told = refused(
        "plan", "s3://no-such-bucket-here/products.csv", "--recipe", folder / "recipe.yaml", "--output", folder / "out"
    )
    assert "credentials" in told
    assert "wrong" not in told
    monkeypatch.undo()
    storage.client.cache_clear()


def test_unknown_placement_names_the_known_ones(folder):
    assert "known: local, gpu" in refused(*plan_of(folder, "--placement", "gpus"))


def test_gpus_where_there_are_none_are_told_by_the_doctor(folder):
    code, out, _ = packshot("doctor", "--recipe", folder / "recipe.yaml", "--placement", "gpu", "--json")

    devices = next(finding for finding in json.loads(out)["findings"] if finding["check"] == "devices")
    assert code == 2
    assert "asks for 1 GPUs, here are 0" in devices["to_do"]


def test_doctor_finds_weights_catalogue_and_output_in_order(folder):
    code, out, _ = packshot(
        "doctor",
        "--recipe",
        folder / "recipe.yaml",
        "--catalogue",
        folder / "products.csv",
        "--output",
        folder / "out",
        "--json",
    )

    assert code == 0
    assert all(finding["ok"] for finding in json.loads(out)["findings"])
    assert list((folder / "out").iterdir()) == []


def test_recipe_check_prints_every_default_and_warns_of_unknown_words(folder):
    with_recipe(folder, prompts={"find": "{category}", "paint": "a zebra {colour} {category}"})

    code, out, told = packshot("recipe", "check", folder / "recipe.yaml", "--json")

    assert code == 0
    assert json.loads(out)["paint"]["guidance"] == 3.0
    assert "'zebra'" in told


def test_recipe_schema_describes_every_section():
    code, out, _ = packshot("recipe", "schema")

    assert code == 0
    assert {"name", "models", "prompts", "detect", "paint"} <= set(json.loads(out)["properties"])


@pytest.mark.parametrize("path", sorted(recipes.RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_recipes_obey_the_schema_that_editors_check_them_with(path):
    jsonschema.validate(yaml.safe_load(path.read_text()), recipes.json_schema())


def test_schema_knows_no_setting_that_the_parser_does_not():
    with pytest.raises(jsonschema.ValidationError, match="stepps"):
        jsonschema.validate({"name": "a", "models": "embedded", "paint": {"stepps": 3}}, recipes.json_schema())


def test_report_without_a_run_says_so(folder):
    assert "there is no published run" in refused("report", folder / "out")


@pytest.mark.parametrize("command", ["plan", "render", "report", "try", "doctor", "serve", "demo"])
def test_every_command_explains_itself(command):
    code, out, _ = packshot(command, "--help")

    assert code == 0
    assert "Usage" in out


def test_try_writes_what_a_person_wants_to_see(tmp_path):
    from pipelines.sample.scenes import scene

    made = scene(1_600_000, (256, 256))
    largest = max(made.objects, key=lambda thing: int(thing.mask.sum()))
    (tmp_path / "photo.png").write_bytes(encode(made.rgb, "png"))

    code, out, told = packshot(
        "try",
        tmp_path / "photo.png",
        "--find",
        largest.category,
        "--prompt",
        f"a red {largest.category}",
        "--models",
        "embedded",
        "--variants",
        2,
        "--output",
        tmp_path / "tried",
        "--json",
    )

    facts = json.loads(out)
    assert "sample world only" in told
    assert (tmp_path / "tried" / "recipe.yaml").is_file()
    if facts["status"] == "ok":
        assert code == 0
        assert {"mask.png", "before-after.png", "difference.png"} <= {
            path.name for path in (tmp_path / "tried").iterdir()
        }
        assert {variant["changed_outside"] for variant in facts["variants"] if variant["kept"]} == {0}
    else:
        assert code == 1
        assert facts["reason"]


def test_try_of_a_file_that_is_no_picture_gives_its_reason(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")

    code, out, _ = packshot(
        "try",
        tmp_path / "notes.txt",
        "--find",
        "mug",
        "--prompt",
        "a mug",
        "--models",
        "embedded",
        "--output",
        tmp_path / "t",
    )

    assert code == 1
    assert "The file is not a picture." in out


def test_evaluation_prints_every_figure_beside_its_bar(tmp_path):
    code, out, _ = packshot("evaluate", "embedded", "--json", "--scenes", 2, "--sheet", tmp_path / "sheet.png")

    told = json.loads(out)
    figures = {figure["what"]: figure for figure in told["figures"]}
    assert code == 0
    assert told["world"] == "sample"
    assert figures["named product found, IoU >= 0.5"]["bar"] == 0.95
    assert figures["one variant at default steps, one process, s"]["value"] > 0
    assert figures["repaint: asked colour seen"]["n"] == 1
    assert (tmp_path / "sheet.png").is_file()
    needs_judge = {"pattern", "category", "negative", "background"}
    assert ("repaint: asked pattern seen" in figures) != any("`judge`" in note for note in told["notes"])
    missing = {name for name in BARS if name not in figures}
    assert all(any(word in name for word in needs_judge) for name in missing)


def test_evaluation_of_a_folder_without_models_says_what_it_left_out(tmp_path):
    code, out, _ = packshot("evaluate", "embedded", tmp_path, "--json", "--scenes", 1)

    told = json.loads(out)
    assert code == 0
    assert [figure["what"] for figure in told["figures"]] == ["size of all weights on disk, MB"]
    assert sum("left out what needs" in note for note in told["notes"]) == 5
