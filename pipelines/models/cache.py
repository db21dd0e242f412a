"""A cache of bounded size that evicts what was least recently used."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Cache(Generic[Key, Value]):
    """Keeps what was made under each key, so that it is made once; threads wait for one another.

    Where the sizes add up to more than `most`, the least recently used values are evicted, but never the one that was
    just asked for. An evicted value stays alive as long as its users hold it.

    Args:
        most: the largest sum of sizes.
        size: of a value, when it is made; by default each counts as 1.
    """

    def __init__(self, most: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        self.most = most
        self.size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made if there is none; an error of `make` is raised and nothing is kept."""
        with self._lock:
            if key not in self._values:
                value = make()
                self._values[key] = value, self.size(value)
            self._values.move_to_end(key)
            while len(self._values) > 1 and sum(size for _, size in self._values.values()) > self.most:
                self._values.popitem(last=False)
            return self._values[key][0]
