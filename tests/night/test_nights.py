"""Stories of two and more nights: real plans, leases and manifests, with fakes in the place of models and of Ray."""

import json
import multiprocessing
import os
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest

from pipelines import recipe, storage
from pipelines.errors import ConfigError, InfrastructureError, TooManyUnexpected, TooManyVanished
from pipelines.night import lease, manifest, run
from pipelines.night.compare import KEEP
from pipelines.rows import REASONS
from tests.fakes import a_recipe
from tests.shop import Shop, execute, starts


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def a_shop(tmp_path, items):
    return Shop(tmp_path, items)


def pictures(items):
    return {key: item["image_sha256s"] for key, item in items.items()}


# --- a broken run


def test_run_that_broke_off_is_taken_over_and_nothing_of_it_is_done_again(shop):
    shop.broken_off(rows=2)

    made = shop.plan()
    outcome = shop.night_over()

    assert starts(made) == {"c": None}
    assert "2 items were finished by run 1, which was never published; they are taken over" in made.notes
    assert (outcome.run_id, outcome.exit_code, outcome.counts["adopted"]) == (2, 0, 2)
    assert {item["status"] for item in shop.items().values()} == {"ok"}


def test_run_that_broke_off_before_it_was_published_needs_no_ray_to_be_finished(shop):
    shop.broken_off()

    outcome = run.render(shop.night())  # without `execute` and without a Ray

    assert (outcome.exit_code, outcome.counts["ok"], outcome.counts["rendered"]) == (0, 3, 0)


def test_pictures_of_a_taken_over_run_are_those_of_an_undisturbed_one(shop, tmp_path):
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other")
    shop.broken_off(rows=2)

    assert pictures(shop.render()) == pictures(other.render())


def test_taken_over_run_publishes_tonights_catalogue(shop):
    shop.render()
    shop.products["colour"] = ["black"] * 3
    shop.broken_off()
    shop.products = {name: [*values[1:], values[1]] for name, values in shop.products.items()}  # a goes, d comes
    shop.products["sku"][2], shop.products["colour"][1] = "d", "white"
    shop.put("b.png", 55)

    outcome = shop.night_over()

    done = shop.items()
    assert outcome.exit_code == 0
    assert set(done) == {"b", "c", "d"}
    assert {item["status"] for item in done.values()} == {"ok"}
    assert done["c"]["paint_prompts"][0] == "a white mug"
    assert starts(shop.plan()) == {}


def test_broken_run_of_another_threshold_is_judged_again_and_not_painted_again(shop):
    shop.broken_off()
    shop.sections = {"judge": {"keep_best": 1}}

    assert set(starts(shop.plan()).values()) == {"judge"}


def test_damaged_short_and_missing_parts_are_done_again(shop):
    made = shop.broken_off()
    (part,) = storage.list_files(storage.join(made.run_uri, "parts"))
    whole = storage.read(part.uri)
    storage.write(part.uri, whole[: len(whole) // 2])

    assert len(starts(shop.plan())) == 3
    storage.delete(part.uri)
    assert len(starts(shop.plan())) == 3
    assert shop.night_over().counts["ok"] == 3


def test_part_of_an_older_version_is_taken_over_with_what_it_lacks_null(shop):
    made = shop.broken_off()
    (part,) = storage.list_files(storage.join(made.run_uri, "parts"))
    (table,) = manifest.read_parts(made.run_uri)
    older = table.drop_columns(["max_differences"]).append_column("what_it_had", pa.array(["once"] * len(table)))
    storage.write(part.uri, manifest.to_parquet(older))

    done = shop.render()

    assert [item["max_differences"] for item in done.values()] == [None] * 3
    assert {item["status"] for item in done.values()} == {"ok"}


def test_row_that_is_missing_from_the_parts_publishes_nothing_and_the_next_try_does(shop):
    with pytest.raises(InfrastructureError, match="1 of 3 rows are missing"):
        run.render(shop.night(), execute=lambda night, made, held: execute(night, made, held, 2))
    assert manifest.newest(shop.out) is None

    assert shop.night_over().counts["ok"] == 3


def test_limit_that_is_raised_after_a_broken_run_is_tried(shop):
    shop.sections = {"read": {"max_pixels": 10}}
    shop.broken_off()
    shop.sections = {}

    assert len(starts(shop.plan())) == 3


# --- trials, rivals, leases


def test_trial_after_a_broken_night_takes_its_work_over_and_hides_nothing(tmp_path):
    shop = a_shop(tmp_path, 6)
    shop.broken_off(rows=4)

    trial = shop.night_over(limit=1)

    assert (trial.exit_code, trial.counts["ok"], trial.counts["pending"]) == (3, 5, 1)
    assert shop.night_over().counts["rendered"] == 1


def test_trial_of_another_recipe_leaves_a_broken_nights_work_to_the_next_full_night(tmp_path):
    shop = a_shop(tmp_path, 6)
    shop.broken_off()
    shop.sections = {"paint": {"steps": 7}}
    trial = shop.night_over(limit=1)
    shop.sections = {}

    made = shop.plan()

    assert (trial.run_id, trial.counts["pending"]) == (2, 5)
    assert starts(made) == {}
    assert made.adopted == 6


def test_trial_during_a_full_night_is_refused_with_the_name_of_who_works(shop, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 0.8)
    made = shop.plan()

    with lease.held(made.run_uri, made.digest, 0.8), pytest.raises(ConfigError, match="one run at a time"):
        shop.night_over(limit=1)
    assert shop.night_over().counts["ok"] == 3


def test_digest_knows_neither_limit_nor_recipe_name_but_words_nodes_and_catalogue(shop, tmp_path):
    digest = shop.plan().digest
    named = replace(shop.night(), recipe=shop.recipe().model_copy(update={"name": "otherwise"}))

    assert run.make_plan(named).digest == shop.plan(limit=1).digest == digest
    shop.products["price"][0] = "9"
    assert shop.plan().digest == digest
    shop.products["colour"][0] = "black"
    assert shop.plan().digest != digest


def test_rival_with_other_work_takes_the_next_number_and_both_are_published_whole(shop):
    first_night = shop.night()
    shop.sections = {"paint": {"steps": 7}}
    rival_night = shop.night()
    late = run.make_plan(rival_night)  # planned before the first night put anything
    first = run.render(first_night, execute=execute)

    with run._owned(late) as (owned, held):
        rival = run._run_and_publish(rival_night, owned, held, 0.0, execute)

    assert (first.run_id, rival.run_id) == (1, 2)
    runs = {number: manifest.open_run(shop.out, number) for number in (1, 2)}
    assert runs[2].facts["recipe"]["paint"]["steps"] == 7
    (ours,), (theirs,) = (manifest.read(one, "items") for one in runs.values())  # each file at the hash that is named
    pairs = zip(ours["node_keys"].to_pylist(), theirs["node_keys"].to_pylist(), strict=True)
    assert all(dict(our)["paint"] != dict(their)["paint"] for our, their in pairs)
    assert starts(run.make_plan(rival_night)) == {}


def test_rival_with_the_same_work_waits_for_the_first_and_finds_nothing_left_to_do(shop):
    late = shop.plan()  # both planned before either began
    first = shop.night_over()

    with pytest.raises(lease.Owned), run._owned(late):
        pass
    second = shop.night_over()

    assert (first.run_id, second.run_id, second.exit_code) == (1, None, 0)


def test_lease_that_lapses_while_rows_are_painted_publishes_nothing(shop):
    def lapse(night, made, held):
        execute(night, made, held)
        held.until = 0.0

    with pytest.raises(InfrastructureError, match="lapsed"):
        run.render(shop.night(), execute=lapse)
    assert manifest.newest(shop.out) is None


# --- what a night before left


def test_cell_that_is_filled_in_renders_its_item(tmp_path):
    shop = a_shop(tmp_path, 12)
    shop.products["colour"] = [None] * 11 + ["red"]
    shop.render()
    shop.products["colour"] = ["red"] * 12

    assert set(starts(shop.plan()).values()) == {None}
    assert {item["status"] for item in shop.render().values()} == {"ok"}


def test_item_whose_cell_was_empty_for_one_night_kept_its_picture_and_is_rendered_again(shop):
    before = shop.render()
    shop.products["colour"][1] = None
    between = shop.render()["b"]
    shop.products["colour"][1] = "green"
    after = shop.render()["b"]

    assert (between["status"], between["reason"]) == ("failed", "missing_value")
    assert between["image_uris"] == before["b"]["image_uris"]
    assert after["status"] == "ok"
    assert after["image_sha256s"] == before["b"]["image_sha256s"]


BESIDE = {
    "reference_unreadable": {"catalogue": {"references": "beside"}},
    "scene_unreadable": {"catalogue": {"scene": "beside"}, "paint": {"task": "place"}},
    "too_many_bytes": {"catalogue": {"references": "beside"}, "read": {"max_bytes": 20_000}},
}


@pytest.mark.parametrize("reason", BESIDE)
def test_reference_or_scene_that_was_replaced_is_tried_again(shop, reason):
    shop.sections = BESIDE[reason]
    shop.products["beside"] = ["x.png", "y.png", "y.png"]
    shop.put("y.png", 91)
    (shop.shelf / "x.png").write_bytes(b"no picture" * 3_000)
    assert shop.render()["a"]["reason"] == reason
    assert starts(shop.plan()) == {}
    shop.put("x.png", 90)

    assert list(starts(shop.plan())) == ["a"]
    assert shop.render()["a"]["reason"] != reason


@pytest.mark.parametrize(
    ("before", "after"),
    [({"segmenter": "W"}, {"segmenter": "W", "call_size": 8}), ({}, {"segmenter": "W"})],
    ids=["call-size", "segmenter-added"],
)
def test_change_of_a_score_that_reads_what_nobody_stores_starts_at_the_mask(shop, before, after):
    a_recipe(shop.folder)
    weights = {name: str(shop.folder / "weights.safetensors") for name in ("segmenter",)}
    shop.sections = {"score": {**before, **{name: weights[name] for name in before if name in weights}}}
    shop.render()
    shop.sections = {"score": {**after, **{name: weights[name] for name in after if name in weights}}}

    assert set(starts(shop.plan()).values()) == {"mask"}
    assert {item["status"] for item in shop.render().values()} == {"ok"}


@pytest.mark.parametrize("task", ["replace", "recolour", "remove", "restyle"])
def test_changed_reference_is_scored_on_the_stored_crops(shop, task):
    shop.sections = {"paint": {"task": task}, "catalogue": {"references": "look"}}
    shop.sections |= {"prompts": {"colour": "blue"}} if task == "recolour" else {}
    shop.products["look"] = ["look.png"] * 3
    shop.put("look.png", 50)
    shop.render()
    shop.put("look.png", 51)

    assert set(starts(shop.plan()).values()) == {"score"}
    done = shop.render()
    assert {item["status"] for item in done.values()} == {"ok"}
    assert set(dict(done["a"]["seconds"])) == {"read", "score", "judge", "deliver"}


TASKS = {
    "replace": "judge",
    "recolour": "judge",
    "remove": "judge",
    "restyle": "judge",
    "insert": "judge",
    "background": "mask",
    "place": "mask",
}


@pytest.mark.parametrize("task", TASKS)
def test_changed_judge_calls_no_model_where_the_crops_lie_on_the_source(shop, task):
    weights = str(shop.folder / "weights.safetensors")
    a_recipe(shop.folder)
    shop.sections = {"paint": {"task": task}}
    shop.sections |= {"prompts": {"colour": "blue"}} if task == "recolour" else {}
    shop.sections |= {"catalogue": {"scene": "beside"}} if task == "place" else {}
    shop.sections |= {"catalogue": {"references": "beside"}} if task == "insert" else {}
    shop.sections |= {"score": {"segmenter": weights}} if task == "background" else {}
    shop.products["beside"] = ["beside.png"] * 3
    shop.put("beside.png", 9)
    shop.render()
    shop.sections["judge"] = {"keep_best": 1}

    assert set(starts(shop.plan()).values()) == {TASKS[task]}
    assert {item["status"] for item in shop.render().values()} == {"ok"}


def in_steps(folder, *steps, variants=1):
    a_recipe(folder)
    weights = str(folder / "weights.safetensors")
    sections = {name: {"checkpoint": weights} for name in ("detect", "segment", "score")}
    judge = {"keep_best": 2, "min_text_similarity": -1.0, "max_ring_error": 255.0, "max_expansion": 1e9}
    return recipe.parse(
        {
            "name": "steps",
            "models": "own",
            "prompts": {"find": "{category}", "paint": "a {colour} {category}"},
            "mask": {"crop_px": 64},
            "paint": {"checkpoint": weights, "variants": variants},
            "judge": judge,
            **sections,
            **({"steps": list(steps)} if steps else {}),
        }
    )


def test_changed_word_of_a_recipe_whose_first_step_finds_nothing_is_rendered(shop):
    a_recipe(shop.folder)
    weights = str(shop.folder / "weights.safetensors")
    first = {"paint": {"task": "restyle", "checkpoint": weights, "variants": 1}}
    second = {"paint": {"task": "replace", "checkpoint": weights}}
    found = {name: {"checkpoint": weights} for name in ("detect", "segment")}
    shop.recipe_ = recipe.parse(
        {
            "name": "two",
            "models": "own",
            "prompts": {"find": "{category}", "paint": "a {colour} {category}"},
            "mask": {"crop_px": 64},
            "score": {"checkpoint": weights},
            "judge": {"keep_best": 1, "min_text_similarity": -1.0, "max_ring_error": 255.0},
            "steps": [first, {**second, **found}],
        }
    )
    shop.render()
    shop.products["colour"][0] = "black"

    assert starts(shop.plan()) == {"a": None}
    assert {item["status"] for item in shop.render().values()} == {"ok"}


def test_failed_item_keeps_last_nights_pictures_in_the_manifest(shop):
    before = shop.render()
    (shop.shelf / "b.png").unlink()
    shop.render()
    after = shop.render()["b"]  # two nights later still

    assert (after["status"], after["reason"], after["attempts"]) == ("failed", "source_missing", 1)
    assert after["image_uris"] == before["b"]["image_uris"]
    rows = [row for row in shop.images() if row["item_key"] == "b"]
    assert [row["image_uri"] for row in rows] == before["b"]["image_uris"]
    assert {row["steps"] for row in rows} == {None}  # nobody knows any more how these were painted


def test_failed_item_that_was_left_pending_is_never_judged_on_pictures_of_other_words(shop):
    shop.render()
    shop.products["colour"] = ["black", "white", "pink"]
    (shop.shelf / "b.png").unlink()
    shop.render()
    shop.put("b.png", 1)
    shop.products["colour"] = ["black", "grey", "pink"]
    shop.put("a.png", 70)
    shop.put("c.png", 71)
    pending = shop.render(limit=1)
    shop.products["colour"] = ["black", "white", "pink"]

    assert [item["status"] for item in pending.values()].count("pending") == 2
    assert starts(shop.plan())["b"] is None


def test_pending_items_come_first_the_next_night(tmp_path):
    shop = a_shop(tmp_path, 4)
    shop.render(limit=2)
    shop.products["colour"] = ["black", "black", *shop.products["colour"][2:]]

    assert list(starts(shop.plan(limit=2))) == ["c", "d"]
    assert list(starts(shop.plan())) == ["c", "d", "a", "b"]


@pytest.mark.parametrize("steps", [(1, 2), (2, 1)])
def test_pending_items_keep_their_images_when_the_number_of_steps_changes(shop, steps):
    two = [
        {"paint": {"task": "replace"}},
        {"paint": {"task": "recolour", "variants": 2}, "prompts": {"colour": "blue"}},
    ]
    recipes = {1: in_steps(shop.folder, variants=2), 2: in_steps(shop.folder, *two)}
    shop.recipe_ = recipes[steps[0]]
    shop.render()
    before, item = [row for row in shop.images() if row["item_key"] == "c"], shop.items()["c"]
    shop.recipe_ = recipes[steps[1]]
    after = shop.render(limit=1)["c"]

    rows = [row for row in shop.images() if row["item_key"] == "c"]
    assert after["status"] == "pending"
    assert after["image_uris"] == item["image_uris"]
    assert len(before) == len(rows) == 2
    for name in ("seed", "prompt", "image_uri", "kept"):
        assert [row[name] for row in rows] == [row[name] for row in before]


def test_counts_and_reasons_tell_of_tonights_rejected_and_failed_only(tmp_path):
    shop = a_shop(tmp_path, 4)
    shop.products["category"][1] = "nothing"
    (shop.shelf / "c.png").write_bytes(b"no picture")
    shop.render()
    shop.products["category"] = ["cup"] * 4
    shop.put("c.png", 7)

    planned = shop.plan(limit=1).counts()
    counts = shop.night_over(limit=1).counts

    facts = manifest.newest(shop.out).facts
    assert counts["pending"] == 3
    assert facts["reasons"] == {}
    assert (facts["counts"]["keep"], facts["counts"]["rendered"]) == (planned["keep"], planned["render"]) == (0, 1)


# --- rows that break for ever


def test_item_that_breaks_a_stage_is_tried_three_times_and_then_when_something_changes(shop):
    shop.poison("b.png")

    attempts = [shop.render()["b"]["attempts"] for _ in range(3)]
    assert attempts == [0, 1, 2]
    assert starts(shop.plan()) == {}
    shop.put("b.png", 5)
    assert starts(shop.plan()) == {"b": None}
    assert shop.render()["b"]["attempts"] == 0


def test_bound_of_unexpected_failures_holds_however_often_the_command_is_tried(tmp_path):
    shop = a_shop(tmp_path, 16)
    for number in range(12):
        shop.poison(shop.products["image"][number], number)

    for _ in range(3):
        with pytest.raises(TooManyUnexpected):
            shop.night_over(max_unexpected=10)
    assert manifest.newest(shop.out) is None


def test_bound_of_unexpected_failures_is_a_share_where_that_is_more(tmp_path):
    shop = a_shop(tmp_path, 16)
    for number in range(4):
        shop.poison(shop.products["image"][number], number)

    with pytest.raises(TooManyUnexpected):
        shop.night_over(max_unexpected=3, max_unexpected_share=0.1)
    assert shop.night_over(max_unexpected=3, max_unexpected_share=0.25).counts["failed"] == 4


def test_reason_word_of_another_version_is_tried_again(shop):
    (shop.shelf / "a.png").write_bytes(b"no picture")
    shop.render()
    published = manifest.newest(shop.out)
    (table,) = manifest.read(published, "items")
    words = pa.array(["a_word_of_the_future" if word else None for word in table["reason"].to_pylist()])
    other = table.set_column(table.column_names.index("reason"), "reason", words)
    shutil.rmtree(published.run_uri)
    files = [manifest.write_file(published.run_uri, "items/00000.parquet", other)]
    manifest.publish(published.run_uri, {**published.facts, "files": files})

    assert "a_word_of_the_future" not in REASONS
    assert starts(shop.plan()) == {"a": None}


# --- exit codes, vanished items, places


def test_exit_code_of_nothing_to_do_is_that_of_what_is_published(shop):
    (shop.shelf / "a.png").write_bytes(b"no picture")

    outcomes = [shop.night_over(max_failed=0.02) for _ in range(2)]
    assert [outcome.exit_code for outcome in outcomes] == [1, 1]
    assert all("1 of 3 items stand as failed, more than `--max-failed` 0.02" in one.notes[-1] for one in outcomes)
    assert shop.night_over(max_failed=0.5).exit_code == 0


def test_cut_short_export_is_a_question_and_not_a_night(tmp_path):
    shop = a_shop(tmp_path, 20)
    shop.render()
    whole = shop.products
    shop.products = {name: values[:1] for name, values in whole.items()}

    with pytest.raises(TooManyVanished, match=r"19 of the 20 items of run 1 .*`--allow-vanished` 0.05 lets 1 go"):
        shop.night_over()
    assert "render will refuse this: 19 of the 20" in run.preview(shop.night())[0].notes[-1]
    assert manifest.newest(shop.out).run_id == 1
    shop.products = {name: values[:19] for name, values in whole.items()}
    assert "no longer in the catalogue: 1 item of run 1 (t)" in shop.plan().notes
    assert shop.night_over().counts["vanished"] == 1
    shop.products = {name: values[:1] for name, values in whole.items()}
    assert shop.night_over(allow_vanished=1.0).counts["planned"] == 1


def test_output_below_the_pictures_that_it_is_made_of_is_refused_and_one_below_a_table_is_not(shop):
    with pytest.raises(ConfigError, match="lies in the catalogue"):
        shop.plan(catalogue_uri=str(shop.shelf), output_uri=str(shop.shelf / "out"))
    assert len(starts(shop.plan(output_uri=str(shop.shelf / "out")))) == 3


def test_output_at_which_ray_would_cut_the_path_is_refused_before_anything_is_written(shop):
    with pytest.raises(ConfigError, match=r"has a `\?`"):
        shop.night_over(output_uri=f"{shop.folder}/what?/out")


def test_same_output_under_another_spelling_is_the_same_output(shop, monkeypatch):
    monkeypatch.chdir(shop.folder)
    shop.night_over(output_uri="out")
    shop.sections = {"judge": {"keep_best": 1}}

    for spelling in ("out", "./out", shop.out):
        assert set(starts(shop.plan(output_uri=spelling)).values()) == {"judge"}
    assert all(os.path.isabs(uri) for item in shop.items().values() for uri in item["crop_uris"])


def test_output_that_was_moved_is_gone_on_with(shop):
    shop.render()
    shop.sections = {"judge": {"keep_best": 1}}
    shutil.move(shop.out, shop.folder / "moved")
    shop.out = str(shop.folder / "moved")

    assert set(starts(shop.plan()).values()) == {"judge"}
    done = shop.render()
    assert all(uri is None or os.path.isfile(uri) for item in done.values() for uri in item["image_uris"])


def test_judging_again_puts_no_crop_that_lies_where_it_belongs(shop):
    before = shop.render()
    written = {path: path.stat().st_mtime_ns for path in (shop.folder / "out").rglob("*.png")}
    shop.sections = {"judge": {"keep_best": 1}}
    after = shop.render()

    crops = {key: dict(zip(before[key]["crop_uris"], after[key]["crop_uris"], strict=True)) for key in before}
    assert all("/crops/" in old or old == new for pairs in crops.values() for old, new in pairs.items())
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_run_json_tells_what_each_node_takes(shop):
    shop.render()

    facts = json.loads(storage.read(storage.join(manifest.run_uri(shop.out, 1), "run.json")))

    assert set(facts["node_s"]) == {
        "read",
        "detect",
        "segment",
        "mask",
        "paint",
        "compose",
        "score",
        "judge",
        "deliver",
    }
    assert facts["node_seconds"]["paint"] == pytest.approx(3 * facts["node_s"]["paint"])
    assert KEEP in facts["counts"]


def one_of_several(shop, barrier, answers):
    """A process that renders tonight, at the same moment as others do."""
    barrier.wait()
    try:
        outcome = shop.night_over()
        answers.put((outcome.run_id, outcome.exit_code, outcome.counts["planned"]))
    except ConfigError as error:
        answers.put((None, 2, str(error)))


def test_processes_that_start_one_night_at_once_render_it_once(tmp_path):
    shop, several = a_shop(tmp_path, 8), 3
    shop.night()  # the table is there before they look at it
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(several), context.Queue()
    processes = [context.Process(target=one_of_several, args=(shop, barrier, answers)) for _ in range(several)]
    for process in processes:
        process.start()
    told = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=30)

    runs = [run_id for run_id, _, _ in told if run_id]
    assert runs == [1]
    assert all(code == 0 or "one run at a time" in words for _, code, words in told)
    assert manifest.newest(shop.out).facts["counts"]["rendered"] == 8
    assert shop.night_over().run_id is None
