"""What tonight's run has to do, after a night that was rendered with fakes."""

import pytest

from pipelines.executors.placement import GPU, LOCAL
from pipelines.night import manifest
from pipelines.night.compare import KEEP, RENDER
from pipelines.night.forecast import forecast
from tests.fakes import a_graph
from tests.shop import Shop, starts

NODE_S = dict.fromkeys(["read", "detect", "segment", "mask", "paint", "compose", "score", "judge", "deliver"], 0.5)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_first_night_renders_everything_and_writes_nothing_while_planning(shop):
    made = shop.plan()

    assert made.run_id == 1
    assert starts(made) == {"a": None, "b": None, "c": None}
    assert manifest.runs(shop.out) == manifest.Runs(0, None, ())


def test_next_night_renders_nothing(shop):
    shop.render()

    made = shop.plan()

    assert made.counts() == {"planned": 3, "keep": 3, "render": 0, "pending": 0}


def test_changed_picture_alone_is_rendered_from_the_beginning(shop):
    shop.render()
    shop.put("b.png", 77)

    assert starts(shop.plan()) == {"b": None}


def test_changed_word_starts_at_the_mask_with_what_was_found_last_night(shop):
    before = shop.render()
    shop.products["colour"][2] = "black"

    made = shop.plan()

    assert starts(made) == {"c": "mask"}
    (row,) = made.rows(RENDER).to_pylist()
    assert row["object_masks_rle"] == before["c"]["object_masks_rle"]
    assert row["variant_seeds"] is None


def test_changed_threshold_starts_at_the_judge_and_gives_the_same_pictures(shop):
    before = shop.render()
    shop.sections = {"judge": {"keep_best": 1}}

    assert set(starts(shop.plan()).values()) == {"judge"}
    after = shop.render()
    for key, item in after.items():
        kept = [digest for digest in item["image_sha256s"] if digest]
        assert len(kept) == 1
        assert set(kept) <= set(before[key]["image_sha256s"])
        assert set(dict(item["seconds"])) == {"read", "judge", "deliver"}


def test_expired_crops_send_their_item_back_to_the_mask_and_the_plan_says_so(shop):
    shop.render()
    shop.sections = {"judge": {"keep_best": 3}}
    for path in (shop.folder / "out" / "variants").rglob("*.png"):
        path.unlink()

    made = shop.plan()

    assert set(starts(made).values()) == {"mask"}
    assert "3 items are painted again" in made.notes[0]


def test_changed_price_is_carried_over_without_rendering(shop):
    shop.sections = {"catalogue": {"keep_columns": ["price"]}}
    shop.render()
    shop.products["price"][0] = "9"

    made = shop.plan()

    assert starts(made) == {}
    assert dict(made.rows(KEEP).to_pylist()[0]["columns"])["price"] == "9"


def test_permanent_failure_stays_and_a_transient_one_is_tried_again(shop):
    (shop.shelf / "a.png").write_bytes(b"no picture")
    (shop.shelf / "b.png").unlink()
    done = shop.render()
    assert [done[key]["reason"] for key in "abc"] == ["not_an_image", "source_missing", None]

    made = shop.plan()

    assert starts(made) == {"b": None}
    assert made.rows(RENDER)["attempts"].to_pylist() == [1]


def test_raised_limit_tries_what_was_too_large_again(shop):
    shop.sections = {"read": {"max_pixels": 10}}
    assert {row["reason"] for row in shop.render().values()} == {"too_many_pixels"}
    assert starts(shop.plan()) == {}
    shop.sections = {}

    assert set(starts(shop.plan())) == {"a", "b", "c"}


def test_item_that_was_rejected_early_is_not_touched_by_a_later_setting(shop):
    shop.products["category"][0] = "nothing"  # the fake detector's word for it
    assert shop.render()["a"]["reason"] == "nothing_found"
    shop.sections = {"paint": {"steps": 3}}

    assert starts(shop.plan()) == {"b": "mask", "c": "mask"}


def test_row_without_a_needed_value_is_failed_by_the_plan_and_never_rendered(shop):
    shop.products["colour"][1] = None

    made = shop.plan()

    assert set(starts(made)) == {"a", "c"}
    (failed,) = [row for row in made.rows(KEEP).to_pylist() if row["status"] == "failed"]
    assert (failed["reason"], failed["item_key"]) == ("missing_value", "b")


def test_item_that_left_the_catalogue_leaves_the_plan(shop):
    shop.render()
    shop.products = {name: values[1:] for name, values in shop.products.items()}

    assert shop.plan().counts() == {"planned": 2, "keep": 2, "render": 0, "pending": 0}


def test_limit_leaves_the_others_pending_and_they_come_first_the_next_night(shop):
    done = shop.render(limit=1)

    assert [done[key]["status"] for key in "abc"] == ["ok", "pending", "pending"]
    assert starts(shop.plan()) == {"b": None, "c": None}
    assert shop.plan(limit=1).counts() == {"planned": 3, "keep": 1, "render": 1, "pending": 1, "from_read": 1}


def test_pending_item_keeps_last_nights_pictures(shop):
    before = shop.render()
    shop.products["colour"] = ["black", "white", "pink"]

    after = shop.render(limit=1)

    assert after["b"]["status"] == "pending"
    assert after["b"]["image_uris"] == before["b"]["image_uris"]
    assert starts(shop.plan()) == {"b": "mask", "c": "mask"}


def foretold(shop, node_s=NODE_S, placement=LOCAL, listed=None):
    files = shop.listed() if listed is None else listed
    return forecast(shop.plan(), a_graph(shop.recipe()), files, node_s, placement)


def test_forecast_of_nothing_to_render_is_nothing_to_read(shop):
    shop.render()

    told = foretold(shop)

    assert (told.bytes_to_read, told.not_listed, told.expected_s) == (0, 0, 0.0)


def test_forecast_sums_the_listed_sizes_of_what_is_rendered_each_time_it_is_named(shop):
    shop.render()
    shop.put("b.png", 77)
    shop.products["look"] = ["a.png", "a.png", None]
    shop.sections = {"catalogue": {"references": "look"}}

    told = foretold(shop)

    sizes = {name: (shop.shelf / f"{name}.png").stat().st_size for name in "abc"}
    assert starts(shop.plan()) == {"a": "score", "b": None}
    assert told.bytes_to_read == 2 * sizes["a"] + sizes["b"] + sizes["a"]


def test_forecast_counts_the_nodes_that_each_item_has_to_pass(shop):
    shop.render()
    shop.put("b.png", 77)
    shop.sections = {"judge": {"keep_best": 1}}

    assert starts(shop.plan()) == {"a": "judge", "b": None, "c": "judge"}
    # two processes: three items pass read, judge and deliver, one passes the six nodes between as well
    assert foretold(shop).expected_s == pytest.approx((3 * 3 * 0.5 + 6 * 0.5) / 2, abs=0.05)


def test_forecast_after_a_night_that_only_judged_knows_what_painting_took(shop):
    shop.render()
    shop.sections = {"judge": {"keep_best": 1}}
    shop.render()
    shop.sections = {"paint": {"steps": 3}}

    node_s = manifest.newest(shop.out).facts["node_s"]

    assert set(node_s) == set(NODE_S)
    assert foretold(shop, {node: 1000 * seconds for node, seconds in node_s.items()}).expected_s > 0


def test_forecast_says_what_no_listing_shows_and_what_nobody_can_know(shop):
    (shop.shelf / "a.png").unlink()

    some = foretold(shop, node_s={})
    none = foretold(shop, node_s={}, listed={})

    assert some.not_listed == 1
    assert some.bytes_to_read == sum((shop.shelf / name).stat().st_size for name in ("b.png", "c.png"))
    assert "files that no listing shows, not counted: 1" in some.sentences()[0]
    assert (none.bytes_to_read, none.expected_s) == (None, None)
    assert none.sentences()[:2] == (
        "to read: unknown, since no listing shows the pictures",
        "time: unknown: no run has told yet what the nodes take",
    )


def test_forecast_counts_ray_s_own_cpus_among_what_the_placement_takes(shop):
    told = foretold(shop, placement=GPU)

    assert (told.cpus, told.gpus) == (sum(group.cpus * group.replicas for group in GPU) + 2, 1)
    assert f"asks for {told.cpus:g} CPUs (2 of them for Ray's own reads and writes) and 1 GPUs" in told.sentences()[2]


def test_pending_item_whose_words_came_back_is_judged_again(shop):
    shop.render()
    shop.products["colour"] = ["black", "white", "pink"]
    shop.render(limit=1)
    shop.products["colour"] = ["black", "green", "blue"]

    assert starts(shop.plan()) == {"b": "judge", "c": "judge"}
