"""What tonight's run has to do, after a night that was rendered with fakes."""

import pytest

from pipelines.night import manifest
from pipelines.night.compare import KEEP, RENDER
from tests.shop import Shop, starts


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


def test_pending_item_whose_words_came_back_is_judged_again(shop):
    shop.render()
    shop.products["colour"] = ["black", "white", "pink"]
    shop.render(limit=1)
    shop.products["colour"] = ["black", "green", "blue"]

    assert starts(shop.plan()) == {"b": "judge", "c": "judge"}
