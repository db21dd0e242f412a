import pytest

from pipelines.models.cache import Cache


def made(cache, *keys):
    """The keys of which a value was made when each was asked for in turn."""
    fresh = []
    for key in keys:
        cache.get(key, lambda key=key: fresh.append(key) or key)
    return fresh


def test_a_value_is_made_once():
    assert made(Cache(most=10), "a", "b", "a", "a") == ["a", "b"]


def test_beyond_the_bound_the_least_recently_used_value_is_evicted():
    assert made(Cache(most=2), "a", "b", "a", "c", "a", "b") == ["a", "b", "c", "b"]


def test_sizes_are_added_up_and_several_small_values_give_way_to_a_large_one():
    cache = Cache(most=10, size=len)

    assert made(cache, "aaa", "bbb", "cccc", "dddddddd") == ["aaa", "bbb", "cccc", "dddddddd"]
    assert made(cache, "dddddddd", "cccc", "aaa") == ["cccc", "aaa"]


def test_a_value_larger_than_the_bound_is_kept_until_the_next():
    cache = Cache(most=3, size=len)

    assert made(cache, "large", "large", "a", "large") == ["large", "a", "large"]


def test_a_value_that_could_not_be_made_is_tried_again():
    cache = Cache(most=1)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 / 0)

    assert made(cache, "a") == ["a"]
