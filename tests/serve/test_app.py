from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.pixels.images import decode, encode
from pipelines.recipe import dump
from serve.errors import Refused
from serve.requests import Asked, to_row
from serve.served import Served
from tests.fakes import POISON, a_picture, a_recipe
from tests.serve.clients import FORM, PNG, Raising, Rendering, a_client, error_of, is_not_ready, post

# --- what a client gets


def test_a_picture_comes_back_repainted_with_its_proof(tmp_path: Path) -> None:
    response = post(a_client(tmp_path))

    answer = response.json()
    assert (response.status_code, answer["status"], answer["reason"]) == (200, "ok", None)
    assert [variant["kept"] for variant in answer["variants"]].count(True) == 2
    assert [variant["reason"] for variant in answer["variants"]].count("not_among_best") == 1
    assert answer["proof"]["source_sha256"] == hashlib.sha256(PNG).hexdigest()
    assert set(answer["proof"]["exactness"]) == {"pixels", None}
    assert sorted(answer["proof"]["changed_outside"], key=str) == [0, 0, None]
    assert answer["world"] is None
    assert {one["node"] for one in answer["checkpoints"]} == {"detect", "segment", "paint", "score"}


def test_the_file_of_a_kept_variant_differs_from_the_source_inside_the_mask_alone(tmp_path: Path) -> None:
    answer = post(a_client(tmp_path)).json()

    for variant in answer["variants"]:
        assert (variant["image"] is None) == (not variant["kept"]) == (variant["sha256"] is None)
        if variant["kept"]:
            data = base64.b64decode(variant["image"])
            allowed = coco.decode({**answer["item"]["mask"], "counts": answer["item"]["mask"]["counts"].encode()})
            changed = (decode(data).rgb != decode(PNG).rgb).any(2)
            assert variant["sha256"] == hashlib.sha256(data).hexdigest()
            assert variant["media_type"] == "image/png"
            assert changed.any()
            assert not changed[allowed == 0].any()


def test_a_score_that_was_not_measured_is_null(tmp_path: Path) -> None:
    silent = a_recipe(tmp_path, score={"likeness": False}, judge={"keep_best": 1})

    answer = post(a_client(tmp_path, recipes=[silent])).json()

    assert answer["status"] == "ok"
    assert {variant["scores"]["text_similarity"] for variant in answer["variants"]} == {None}


def test_an_absent_product_is_an_answer_with_a_reason_and_what_to_do(tmp_path: Path) -> None:
    response = post(a_client(tmp_path), find="nothing", prompt="a red cup")

    answer = response.json()
    assert (response.status_code, answer["status"]) == (200, "rejected")
    assert (answer["reason"], answer["node"]) == ("nothing_found", "detect")
    assert answer["sentence"] == "Nothing in the picture matches the prompt."
    assert "detect.min_score" in answer["next_step"]
    assert answer["variants"] == []
    assert answer["item"]["mask"] is None


def test_a_picture_of_which_no_variant_is_kept_shows_why(tmp_path: Path) -> None:
    strict = a_recipe(tmp_path, judge={"min_text_similarity": 1.0})

    answer = post(a_client(tmp_path, recipes=[strict])).json()

    assert (answer["status"], answer["reason"]) == ("rejected", "nothing_kept")
    assert {variant["reason"] for variant in answer["variants"]} == {"low_text_similarity"}
    assert {variant["sentence"] for variant in answer["variants"]} == {"It does not look enough like the prompt."}
    assert answer["proof"]["changed_outside"] == [None, None, None]


def test_a_recorded_seed_gives_the_same_picture_again(tmp_path: Path) -> None:
    client = a_client(tmp_path)
    first = next(variant for variant in post(client).json()["variants"] if variant["kept"])

    (again,) = post(client, **FORM, seed=first["seed"]).json()["variants"]

    assert (again["seed"], again["sha256"]) == (first["seed"], first["sha256"])


def test_a_given_mask_is_taken_as_it_is_and_nothing_need_be_found(tmp_path: Path) -> None:
    white = np.zeros((80, 96, 3), np.uint8)
    white[10:30, 20:50] = 255

    answer = post(a_client(tmp_path), files=[("mask", encode(white, "png"))], prompt="a red cup").json()

    assert answer["status"] == "ok"
    assert coco.area({**answer["item"]["mask"], "counts": answer["item"]["mask"]["counts"].encode()}) == 20 * 30
    assert answer["item"]["boxes_xyxy"] == []


def test_references_are_measured(tmp_path: Path) -> None:
    files = [("reference", encode(a_picture(5), "png")), ("reference", encode(a_picture(6), "png"))]

    answer = post(a_client(tmp_path), files=files, **FORM).json()

    assert all(variant["scores"]["reference_similarity"] is not None for variant in answer["variants"])


def test_an_exif_rotated_photo_is_answered_upright(tmp_path: Path) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(a_picture(0)).save(file, "JPEG", exif=exif, quality=95)

    answer = post(a_client(tmp_path), image=file.getvalue()).json()

    assert answer["item"]["size_wh"] == [80, 96]


# --- what the request says


def test_templates_are_filled_from_columns(tmp_path: Path) -> None:
    rendering = Rendering()

    post(
        a_client(tmp_path, rendering),
        columns=json.dumps({"sku": "A-7", "category": "cup", "colour": "red", "price": 3}),
    )

    ((row, _),) = rendering.asked
    assert row["item_key"] == "A-7"
    assert row["find_prompt"] == "cup"
    assert row["paint_prompts"] == ["a red cup"] * 3


def test_a_request_may_bring_its_own_words_with_braces_in_them(tmp_path: Path) -> None:
    rendering = Rendering()

    form = {"find": "a {cup}", "prompt": ["one {", "two"], "negative_prompt": "}{", "variants": "2"}
    response = post(a_client(tmp_path, rendering), **form)

    ((row, recipe),) = rendering.asked
    assert response.status_code == 200
    assert row["find_prompt"] == "a {cup}"
    assert row["paint_prompts"] == ["one {", "two"]
    assert row["negative_prompt"] == "}{"
    assert recipe.paint.variants == 2


def test_seeds_are_the_rows_and_not_the_recipes(tmp_path: Path) -> None:
    rendering = Rendering()

    answer = post(a_client(tmp_path, rendering), **FORM, seed=["5", "6"]).json()

    ((row, recipe),) = rendering.asked
    assert row["given_seeds"] == [5, 6]
    assert recipe.paint.seeds == ()
    assert [variant["seed"] for variant in answer["variants"]] == [5, 6]


def test_an_inline_recipe_is_read_as_yaml_and_as_json(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path, judge={"keep_best": 1})
    client = a_client(tmp_path)

    for text in (dump(recipe), json.dumps(recipe.model_dump(mode="json", exclude_unset=True))):
        answer = post(client, **FORM, recipe=text).json()
        assert [variant["kept"] for variant in answer["variants"]].count(True) == 1


def test_a_recipe_that_keeps_all_answers_with_every_picture(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path, judge={"keep": "all"})

    answer = post(a_client(tmp_path), **FORM, recipe=dump(recipe), variants=3).json()

    assert [variant["kept"] for variant in answer["variants"]] == [True] * 3
    assert all(variant["image"] for variant in answer["variants"])


def test_a_recipe_that_keeps_all_and_some_is_refused_with_the_reason(tmp_path: Path) -> None:
    recipe = dump(a_recipe(tmp_path, judge={"keep": "all"})).replace("keep: all", "keep: all\n  keep_best: 2")

    status, code, message = error_of(post(a_client(tmp_path), **FORM, recipe=recipe))

    assert (status, code) == (422, "bad_recipe")
    assert "`keep: all` keeps every variant, whatever it scored; `keep_best` would have no effect" in message


def test_a_column_never_names_a_place_to_fetch_from(tmp_path: Path) -> None:
    greedy = a_recipe(tmp_path, catalogue={"key": "sku", "image": "picture", "mask": "cutout", "references": "likes"})
    places = {"sku": "1", "picture": "/etc/passwd", "cutout": "/etc/passwd", "likes": "s3://bucket/key"}
    rendering = Rendering()

    response = post(a_client(tmp_path, rendering), **FORM, recipe=dump(greedy), columns=json.dumps(places))

    ((row, _),) = rendering.asked
    assert response.status_code == 200
    assert [row["source_uri"], row["mask_uri"], row["reference_uris"]] == [None, None, None]


def test_a_request_cannot_raise_the_limits_of_the_server(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path, read={"max_pixels": 1000})
    greedy = a_recipe(tmp_path, read={"max_pixels": 10**12, "max_bytes": 100, "max_references": 10**6})
    rendering = Rendering()

    response = post(a_client(tmp_path, rendering, recipes=[recipe]), **FORM, recipe=dump(greedy))

    ((_, asked),) = rendering.asked
    assert (asked.read.max_pixels, asked.read.max_bytes, asked.read.max_references) == (1000, 100, 32)
    assert error_of(response)[:2] == (422, "too_many_bytes")


# --- refusals


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (b"", "not_an_image"),
        (b"hello", "not_an_image"),
        (PNG[:100], "truncated_image"),
        (b"%PDF-1.4", "unsupported_format"),
    ],
)
def test_a_picture_that_cannot_be_used_is_422_with_its_reason(tmp_path: Path, image: bytes, code: str) -> None:
    status, found, _ = error_of(post(a_client(tmp_path), image=image))

    assert (status, found) == (422, code)


def test_a_mask_of_another_size_is_told_with_both_sizes(tmp_path: Path) -> None:
    files = [("mask", encode(np.zeros((10, 10, 3), np.uint8), "png"))]

    status, code, message = error_of(post(a_client(tmp_path), files=files, **FORM))

    assert (status, code) == (422, "mask_size_differs")
    assert "10 x 10" in message
    assert "96 x 80" in message


@pytest.mark.parametrize(
    ("form", "status", "code", "said"),
    [
        ({"recipe": "restyle"}, 422, "unknown_recipe", "'restyle'"),
        ({"recipe": "../../etc/passwd"}, 422, "unknown_recipe", "passwd"),
        ({"recipe": "name: [x"}, 422, "bad_recipe", "not YAML"),
        ({"recipe": "[" * 10_000}, 422, "bad_recipe", "brackets within each other"),
        ({"recipe": "a: &a [1]\nb: [*a, *a]"}, 422, "bad_recipe", "aliases"),
        ({"recipe": "# " + "x" * 30_000 + "\na: b"}, 422, "bad_recipe", "characters"),
        (
            {"recipe": "name: x\nmodels: embedded\nprompts: {paint: y}\njugde: {}"},
            422,
            "bad_recipe",
            "did you mean `judge`",
        ),
        ({"columns": "{"}, 400, "bad_columns", "not JSON"),
        ({"columns": "[1]"}, 400, "bad_columns", "list"),
        ({"columns": '{"a": {"b": 1}}'}, 400, "bad_columns", "'a'"),
        ({"columns": '{"given_mask_bytes": "x"}'}, 400, "bad_columns", "the server's own"),
        ({"columns": '{"category": "cup"}'}, 422, "missing_column", "'colour'"),
        ({"find": "a cup"}, 422, "missing_field", "`prompt` is missing"),
        ({"prompt": "a red cup"}, 422, "missing_field", "`find` is missing"),
        ({"seed": "1", "variants": "1"}, 422, "missing_field", "`find` and `prompt` are missing"),
        ({**FORM, "promt": "blue"}, 422, "unknown_field", "`promt` is not a field of the form; did you mean `prompt`?"),
        ({**FORM, "steps": "3"}, 422, "unknown_field", "`steps` is not a field of the form"),
        ({**FORM, "n": "2"}, 422, "unknown_field", "`n` is not a field of the form"),
        ({"seed": "many"}, 400, "bad_request", "`seed`"),
        ({"columns": '{"category": "cup", "colour": null}'}, 422, "missing_value", "'colour'"),
        ({"columns": '{"category": "cup", "colour": NaN}'}, 422, "missing_value", "'colour'"),
        ({"variants": "0"}, 400, "bad_request", "`variants`"),
        ({"variants": "many"}, 400, "bad_request", "`variants`"),
        ({"seed": "-1"}, 400, "bad_request", "`seed`"),
        ({"seed": str(2**63)}, 400, "bad_request", "`seed`"),
        ({**FORM, "seed": "1", "variants": "2"}, 422, "bad_recipe", "1 for 2 variants"),
    ],
)
def test_a_form_that_cannot_be_is_told_what_is_wrong(
    tmp_path: Path, form: dict[str, str], status: int, code: str, said: str
) -> None:
    found_status, found_code, message = error_of(post(a_client(tmp_path), **form))

    assert (found_status, found_code) == (status, code)
    assert said in message


def test_no_recipe_of_a_client_makes_the_server_read_a_path_or_lifts_its_limits(tmp_path: Path) -> None:
    ready = a_recipe(tmp_path, read={"max_bytes": 1000})
    greedy = {
        "catalogue": {"image": "photo", "mask": "matte", "references": "look", "allow": ["/", "s3://shop"]},
        "read": {"max_bytes": 10**12},
    }
    columns = {"category": "cup", "colour": "red"} | dict.fromkeys(("photo", "matte", "look"), str(tmp_path / "secret"))
    for steps in ({}, {"steps": [{}, {}]}):
        asked = Asked(PNG, recipe=dump(a_recipe(tmp_path, **greedy, **steps)), columns=columns)

        row, recipe = to_row(asked, Served((ready,), ()))

        assert not any(row[name] for name in row if name.endswith(("_uri", "_uris")))
        assert recipe.read.max_bytes == 1000
        assert recipe.catalogue.allow == ()


@pytest.mark.parametrize("section", ["catalogue: {mask: matte}", "read: {max_bytes: 1000000000000}"])
def test_no_step_of_a_clients_recipe_has_what_belongs_to_the_recipe(tmp_path: Path, section: str) -> None:
    recipe = f"{dump(a_recipe(tmp_path))}steps:\n- {{}}\n- {section}\n"

    status, code, message = error_of(post(a_client(tmp_path), recipe=recipe, columns='{"matte": "/etc/passwd"}'))

    assert (status, code) == (422, "bad_recipe")
    assert "is not a step's" in message


def test_a_network_is_served_to_whichever_node_asks_for_it(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path, paint={"task": "background"}, judge={"max_expansion": 1e9})

    response = post(a_client(tmp_path, recipes=[a_recipe(tmp_path)]), **FORM, recipe=dump(recipe))

    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        ({"detect": {"checkpoint": "OTHER"}}, "detect"),
        ({"segment": {"checkpoint": "OTHER"}}, "segment"),
        ({"paint": {"checkpoint": "OTHER"}}, "paint"),
        ({"score": {"checkpoint": "OTHER"}}, "score"),
        ({"score": {"segmenter": "OTHER"}}, "score+segmenter"),
        ({"find": {"encoder": "OTHER"}}, "find+encoder"),
        ({"detect": {"checkpoint": "embedded:detector"}}, "detect"),
    ],
)
def test_weights_that_the_server_does_not_have_are_refused(
    tmp_path: Path, sections: dict[str, dict[str, str]], where: str
) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"x")
    named = {
        section: {name: value.replace("OTHER", str(other)) for name, value in said.items()}
        for section, said in sections.items()
    }

    status, code, message = error_of(post(a_client(tmp_path), **FORM, recipe=dump(a_recipe(tmp_path, **named))))

    assert (status, code) == (422, "checkpoint_not_served")
    assert f"`{where}` asks for" in message


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param([{"weight": 0.81}], id="another weight"),
        pytest.param([], id="none, where the server always adds one"),
        pytest.param([{"weight": 0.8}, {"weight": 0.8}], id="the same one twice"),
    ],
)
def test_only_the_sets_of_loras_that_the_server_has_loaded_may_be_asked_for(
    tmp_path: Path, asked: list[dict[str, float]]
) -> None:
    file = tmp_path / "red.safetensors"
    file.write_bytes(b"not looked into")
    checkpoint = f"{file}#sha256={hashlib.sha256(b'not looked into').hexdigest()}"
    served = a_recipe(tmp_path, paint={"lora": [{"checkpoint": checkpoint, "weight": 0.8}]})
    foreign = a_recipe(tmp_path, paint={"lora": [{"checkpoint": checkpoint, **one} for one in asked]})
    client = a_client(tmp_path, recipes=[served])

    refused = post(client, **FORM, recipe=dump(foreign))

    assert error_of(refused)[:2] == (422, "lora_not_served")
    assert f"the LoRA '{file}' at weight 0.8;" in refused.json()["error"]["hint"]
    assert post(client, **FORM, recipe=dump(served)).status_code == 200


def test_a_lora_of_weight_nothing_is_no_other_painter(tmp_path: Path) -> None:
    file = tmp_path / "red.safetensors"
    file.write_bytes(b"not looked into")
    checkpoint = f"{file}#sha256={hashlib.sha256(b'not looked into').hexdigest()}"
    recipes = [a_recipe(tmp_path, paint={"lora": [{"checkpoint": checkpoint, "weight": one}]}) for one in (0.8, 0.0)]
    client = a_client(tmp_path, recipes=recipes[:1])

    assert error_of(post(client, **FORM, recipe=dump(recipes[1])))[:2] == (422, "lora_not_served")


def test_a_request_that_is_no_form_is_415(tmp_path: Path) -> None:
    response = a_client(tmp_path).post("/v1/renders", json={"image": "x"})

    assert error_of(response)[:2] == (415, "not_a_form")


def test_a_request_without_a_picture_is_400(tmp_path: Path) -> None:
    response = a_client(tmp_path).post("/v1/renders", files=[("mask", ("mask.png", PNG))])

    status, code, message = error_of(response)
    assert (status, code) == (400, "bad_request")
    assert "`image`" in message


def test_a_picture_that_is_text_is_told_as_no_file(tmp_path: Path) -> None:
    form = {**FORM, "image": "hello"}

    status, code, message = error_of(a_client(tmp_path).post("/v1/renders", files=[("mask", PNG)], data=form))

    assert (status, code) == (400, "bad_request")
    assert message == "`image` is text; expected a file, which curl sends as -F image=@photo.jpg"


def test_a_field_in_the_address_is_refused_and_not_ignored(tmp_path: Path) -> None:
    rendering = Rendering()
    parts = [("image", ("photo.png", PNG))]

    response = a_client(tmp_path, rendering).post("/v1/renders?variants=1", files=parts, data=FORM)

    assert error_of(response)[:2] == (422, "unknown_field")
    assert "`variants` stands in the address" in response.text
    assert rendering.asked == []


def test_every_field_that_is_described_is_taken(tmp_path: Path) -> None:
    client = a_client(tmp_path)
    described = client.get("/openapi.json").json()["components"]["schemas"]
    (form,) = [one for name, one in described.items() if name.startswith("Body_")]

    hint = post(client, **FORM, nonsense="x").json()["error"]["hint"]

    assert f"fields are {', '.join(form['properties'])};" in hint


def test_a_form_that_breaks_off_is_400(tmp_path: Path) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}

    response = a_client(tmp_path).post("/v1/renders", content=b"--x\r\nContent-Dis", headers=headers)

    assert error_of(response)[0] == 400


def test_an_announced_body_over_the_limit_is_413_unread(tmp_path: Path) -> None:
    rendering = Rendering()

    response = post(a_client(tmp_path, rendering, max_body_bytes=300))

    assert error_of(response)[:2] == (413, "too_large")
    assert rendering.asked == []


def test_a_body_that_grows_over_the_limit_unannounced_is_413(tmp_path: Path) -> None:
    def stream() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(10):
            yield bytes(1000)
        yield b"\r\n--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}

    response = a_client(tmp_path, max_body_bytes=5000).post("/v1/renders", content=stream(), headers=headers)

    assert error_of(response)[:2] == (413, "too_large")


def test_a_page_that_is_not_there_and_a_wrong_method_have_the_same_shape(tmp_path: Path) -> None:
    client = a_client(tmp_path)

    assert error_of(client.get("/v1/nothing"))[:2] == (404, "not_found")
    assert error_of(client.get("/v1/renders"))[:2] == (405, "method_not_allowed")


# --- when the server is in trouble


def test_back_pressure_says_when_to_try_again(tmp_path: Path) -> None:
    response = post(a_client(tmp_path, Raising(Refused(503, "busy", "too many wait", "Try again later.", 5))))

    assert error_of(response)[:2] == (503, "busy")
    assert response.headers["retry-after"] == "5"


def test_a_bug_in_a_stage_is_500_and_keeps_its_traceback_to_the_log(tmp_path: Path) -> None:
    poisoned = a_picture(0)
    poisoned[0, 0] = POISON

    response = post(a_client(tmp_path), image=encode(poisoned, "png"))

    assert error_of(response)[:2] == (500, "unexpected")
    assert "'detect'" in response.text
    assert "Traceback" not in response.text


def test_a_bug_of_the_server_is_500_without_its_words(tmp_path: Path) -> None:
    response = post(a_client(tmp_path, Raising(KeyError("secret"))))

    assert error_of(response)[:2] == (500, "unexpected")
    assert "secret" not in response.text


def test_settings_that_only_a_model_can_refuse_are_422(tmp_path: Path) -> None:
    response = post(a_client(tmp_path, Raising(ConfigError("`paint.strength` leaves no step"))))

    assert error_of(response) == (422, "bad_recipe", "`paint.strength` leaves no step")


def test_lost_weights_are_500(tmp_path: Path) -> None:
    response = post(a_client(tmp_path, Raising(InfrastructureError("the weights are gone"))))

    assert error_of(response) == (500, "infrastructure", "the weights are gone")


# --- health


def test_health_names_version_recipes_and_models(tmp_path: Path) -> None:
    response = a_client(tmp_path).get("/health")

    health = response.json()
    assert (response.status_code, health["status"], health["recipes"]) == (200, "ready", ["fake"])
    assert [one["node"] for one in health["models"]] == ["detect", "segment", "paint", "score"]
    assert all(len(one["sha256"]) == 64 for one in health["models"])


def test_health_is_503_until_models_are_loaded(tmp_path: Path) -> None:
    response = a_client(tmp_path, ready=is_not_ready).get("/health")

    assert (response.status_code, response.json()["status"]) == (503, "starting")


def test_the_description_of_the_api_names_every_error(tmp_path: Path) -> None:
    described = a_client(tmp_path).get("/openapi.json").json()

    assert {"200", "400", "413", "415", "422", "500", "503"} <= set(
        described["paths"]["/v1/renders"]["post"]["responses"]
    )
