"""What a plan will take, as far as it can be known."""

import pytest

from pipelines.executors.placement import GPU, LOCAL
from pipelines.night import manifest
from pipelines.night.forecast import forecast
from tests.fakes import a_graph
from tests.shop import Shop, starts

NODE_S = dict.fromkeys(["read", "detect", "segment", "mask", "paint", "compose", "score", "judge", "deliver"], 0.5)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


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
