"""Bad input: a plain message, no traceback, the right exit code. And the commands' JSON."""

import json
import os
import subprocess
import sys
import traceback
from importlib.metadata import version

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from pipelines import recipe as recipes
from pipelines.pixels.images import decode, encode
from pipelines.pixels.masks import grow
from sample_world.evaluation.embedded import BARS

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
    told = refused(
        "plan", "s3://no-such-bucket-here/products.csv", "--recipe", folder / "recipe.yaml", "--output", folder / "out"
    )
    assert "no-such-bucket-here" in told

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    told = refused(
        "plan", "s3://no-such-bucket-here/products.csv", "--recipe", folder / "recipe.yaml", "--output", folder / "out"
    )
    assert "credentials" in told
    assert "wrong" not in told


def test_unknown_placement_names_the_known_ones(folder):
    assert "known: local, gpu" in refused(*plan_of(folder, "--placement", "gpus"))


def test_gpus_where_there_are_none_are_told_by_the_doctor(folder):
    code, out, _ = packshot("doctor", "--recipe", folder / "recipe.yaml", "--placement", "gpu", "--json")

    devices = next(finding for finding in json.loads(out)["findings"] if finding["check"] == "devices")
    assert code == 2
    assert "asks for 1 GPUs and this machine has 0" in devices["to_do"]


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


@pytest.mark.parametrize("path", sorted(recipes.READY.glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_recipes_obey_the_schema_that_editors_check_them_with(path):
    jsonschema.validate(yaml.safe_load(path.read_text()), recipes.json_schema())


def test_schema_knows_no_setting_that_the_parser_does_not():
    with pytest.raises(jsonschema.ValidationError, match="stepps"):
        jsonschema.validate({"name": "a", "models": "embedded", "paint": {"stepps": 3}}, recipes.json_schema())


def test_report_without_a_run_says_so(folder):
    assert "there is no published run" in refused("report", folder / "out")


@pytest.mark.parametrize("command", ["plan", "render", "report", "diff", "try", "doctor", "serve", "demo"])
def test_every_command_explains_itself(command):
    code, out, _ = packshot(command, "--help")

    assert code == 0
    assert "Usage" in out


HEAVY = {"torch", "ray", "pyarrow", "pydantic", "numpy", "yaml", "boto3", "transformers", "diffusers", "scipy", "cv2"}


@pytest.mark.parametrize("asked", ["--help", "--version"])
def test_help_and_version_import_nothing_that_only_work_needs(asked):
    code = f"""
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted({{name.partition(".")[0] for name in sys.modules}})))
from jobs.cli import app
app([{asked!r}])
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    imported = set(done.stdout.rpartition("IMPORTED")[2].split())
    assert done.returncode == 0
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_version_is_said_and_h_is_help():
    assert packshot("--version")[:2] == (0, f"packshot {version('packshot')}\n")
    assert "Usage" in packshot("plan", "-h")[1]


# --- one picture


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A drawn scene as a file, and the name of the largest thing in it."""
    from sample_world.drawing.scenes import scene

    made = scene(1_600_000, (256, 256))
    path = tmp_path_factory.mktemp("drawn") / "photo.png"
    path.write_bytes(encode(made.rgb, "png"))
    return path, max(made.objects, key=lambda thing: int(thing.mask.sum())).category


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_try_writes_what_a_person_wants_to_see_and_nothing_of_an_earlier_try_stays(tmp_path, drawn):
    photo, category = drawn
    tried = tmp_path / "tried"
    tried.mkdir()
    for name in ("variant-0.png", "variant-7.png", "difference.png", "notes.txt"):
        (tried / name).write_text("old")

    code, out, told = packshot(
        *("try", photo, "--find", category, "--prompt", f"a red {category}", "--models", "embedded"),
        *("--variants", 2, "--output", tried, "--json"),
    )

    facts = json.loads(out)
    assert (code, facts["status"]) == (0, "ok")
    assert "drawn scenes" in told
    assert files_of(tried) == [
        *("before-after.png", "difference.png", "mask.png", "notes.txt", "recipe.yaml"),
        *("variant-0.png", "variant-1.png"),
    ]
    assert (tried / "notes.txt").read_text() == "old"
    assert {variant["changed_outside"] for variant in facts["variants"] if variant["kept"]} == {0}
    assert recipes.load(str(tried / "recipe.yaml")).prompts.paint == (f"a red {category}",)


def test_try_shows_the_variants_that_the_judge_refused(tmp_path, drawn):
    photo, category = drawn
    (tmp_path / "strict.yaml").write_text(yaml.safe_dump({**RECIPE, "judge": {"min_text_similarity": 0.99}}))

    code, out, _ = packshot(
        *("try", photo, "--recipe", tmp_path / "strict.yaml", "--column", "colour=red"),
        *("--column", f"category={category}", "--models", "embedded", "--variants", 1, "--output", tmp_path / "t"),
    )

    assert code == 1
    assert "No variant passed the judge." in out
    assert "variant-0.png: It does not look enough like the prompt." in out
    assert "drawn scenes" in out
    changed = np.any(decode((tmp_path / "t" / "variant-0.png").read_bytes()).rgb != decode(photo.read_bytes()).rgb, 2)
    assert changed.any()
    assert not (changed & (decode((tmp_path / "t" / "mask.png").read_bytes()).rgb[..., 0] == 0)).any()
    assert "before-after.png" in files_of(tmp_path / "t")


@pytest.fixture
def photograph(tmp_path):
    """A real photograph of a person in an orange suit, and a mask of what is that colour: black, all round it white."""
    skimage_data = pytest.importorskip("skimage.data")
    rgb = np.ascontiguousarray(skimage_data.astronaut())
    red, green, blue = (rgb[..., channel].astype(int) for channel in range(3))
    suit = grow((red > 150) & (red - blue > 80) & (red - green > 60), 4)
    (tmp_path / "photo.png").write_bytes(encode(rgb, "png"))
    (tmp_path / "mask.png").write_bytes(encode(np.repeat(np.uint8(255) * ~suit[..., None], 3, 2), "png"))
    return tmp_path, rgb, suit


def test_studio_with_a_mask_works_on_a_photograph_and_loads_no_network(photograph):
    folder, rgb, suit = photograph
    code = f"""
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted({{name.partition(".")[0] for name in sys.modules}})))
from jobs.cli import app
app(["try", "{folder}/photo.png", "--recipe", "studio", "--mask", "{folder}/mask.png", "--output", "{folder}/t"])
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "drawn scenes" not in done.stdout + done.stderr
    assert {"torch", "transformers", "diffusers"} & set(done.stdout.rpartition("IMPORTED")[2].split()) == set()
    shot = decode((folder / "t" / "variant-0.png").read_bytes()).rgb
    assert (shot[:8] == 255).all()
    orange = rgb[suit].mean(axis=0)
    inside = np.abs(shot.astype(int) - orange).sum(axis=2) < 120
    assert 0.1 < inside.mean() < 0.9
    assert "before-after.png" in files_of(folder / "t")
    assert recipes.load(str(folder / "t" / "recipe.yaml")).catalogue.mask == "mask"


def test_try_looks_at_the_picture_and_the_folder_before_any_model_loads(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "file").write_text("in the way")
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(np.full((64, 64, 3), 200, np.uint8), "png"))
    small = tmp_path / "small.png"
    small.write_bytes(encode(np.full((8, 8, 3), 255, np.uint8), "png"))
    # weights that are not there would be told first, if they were looked for
    recipe = {**RECIPE, "models": "own"}
    recipe |= {name: {"checkpoint": "/nowhere/weights"} for name in ("detect", "segment", "paint", "score")}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    words = ("--recipe", tmp_path / "own.yaml", "--find", "mug", "--prompt", "a mug", "--output")

    code, out, _ = packshot("try", tmp_path / "notes.txt", *words, tmp_path / "t")
    assert code == 1
    assert "The file is not a picture." in out
    code, out, _ = packshot("try", photo, "--mask", small, *words, tmp_path / "t")
    assert code == 1
    assert "the mask has 8 x 8 pixels, the picture 64 x 64" in out
    assert "cannot write into" in refused("try", photo, *words, tmp_path / "file" / "t")
    assert "the upright picture is 64 x 64 pixels" in refused(
        "try", photo, "--box", "1,1,99,20", *words, tmp_path / "t"
    )
    assert "/nowhere/weights" in refused("try", photo, *words, tmp_path / "t")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--models", "embedded", "--prompt", ""), "`--prompt` is empty"),
        (("--models", "embedded", "--find", " "), "`--find` is empty"),
        (("--models", "sd15"), "`--models` is 'sd15'; known: embedded, own"),
        (("--models", "own"), "`--recipe FILE`"),
        (("--find", "mug", "--prompt", "a mug"), "say `--models embedded`"),
        (("--models", "embedded", "--find", "mug"), "`--column colour=...` or `--prompt`"),
        (("--models", "embedded", "--prompt", "a mug"), "`--column category=...` or `--find` or `--mask` or `--box`"),
        (("--models", "embedded", "--box", "9,9,1,1"), "`--box` is '9,9,1,1'; expected left,top,right,bottom"),
        (("--models", "embedded", "--box", "1,2,3,4", "--mask", "m.png"), "give one of them"),
        (("--models", "embedded", "--mask", "nowhere.png"), "there is no mask 'nowhere.png'"),
        (("--models", "embedded", "--column", "red"), "expected NAME=VALUE"),
    ],
)
def test_try_says_which_option_is_wrong(folder, words, told):
    assert told in refused("try", folder / "a.png", "--output", folder / "t", *words)


# --- errors of what we stand on


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("pyarrow.ArrowInvalid('offset overflow')", "Arrow could not read or write a table (ArrowInvalid)"),
        ("ray.exceptions.ActorUnavailableError('the node is gone', None)", "Ray failed (ActorUnavailableError)"),
        ("ray.exceptions.RaySystemError('no raylet')", "Ray failed (RaySystemError)"),
        ("OSError(28, 'No space left on device', '/out/x')", "the system refused (OSError): [Errno 28] No space left"),
        ("botocore.exceptions.EndpointConnectionError(endpoint_url='http://x')", "the store did not answer"),
        ("MemoryError()", "the machine's memory is full"),
        ("wrapped(pyarrow.ArrowInvalid('short'))", "Arrow could not read or write a table (ArrowInvalid): short"),
    ],
)
def test_error_of_ray_arrow_store_or_machine_leaves_with_2_and_a_sentence(tmp_path, monkeypatch, raised, told):
    done = leaves(raised, tmp_path, monkeypatch)

    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    (kept,) = tmp_path.glob("packshot-traceback-*.txt")
    assert str(kept) in done.stderr
    assert "in the_cause" in kept.read_text()


@pytest.mark.parametrize(
    "raised",
    ["KeyError('new_column')", "wrapped(KeyError('new_column'))", "ray.exceptions.UserCodeException('in our code')"],
)
def test_bug_stays_the_error_that_it_is(tmp_path, monkeypatch, raised):
    done = leaves(raised, tmp_path, monkeypatch)

    assert done.exit_code == 1
    assert not isinstance(done.exception, SystemExit)
    assert any(frame.name == "the_cause" for frame in traceback.extract_tb(done.exc_info[2]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("raised", "code"), [("KeyError('new_column')", 1), ("MemoryError()", 2)])
def test_process_leaves_with_that_code_and_a_bug_alone_shows_its_traceback(tmp_path, raised, code):
    environment = {**os.environ, "PACKSHOT_LOG_FOLDER": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", RAISES.format(raised)], capture_output=True, text=True, env=environment
    )

    assert done.returncode == code
    assert ("Traceback" in done.stderr) == (code == 1)


RAISES = """
import botocore.exceptions, pyarrow, ray.exceptions, typer
from jobs.cli import plainly

def wrapped(error):
    return ray.exceptions.RayTaskError("task", "traceback", error, "title", 1, "127.0.0.1").as_instanceof_cause()

def the_cause():
    raise {}

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(plainly(the_cause))
if __name__ == "__main__":
    app([])
"""


def leaves(raised, folder, monkeypatch):
    """How a command leaves that raises this."""
    names = {}
    exec(RAISES.format(raised), names)
    monkeypatch.setenv("PACKSHOT_LOG_FOLDER", str(folder))
    return CliRunner().invoke(names["app"])


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
