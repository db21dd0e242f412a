"""How every adapter calls its network: one device, one batch shape, so that batch mates never change a bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batches(items: Sequence[Item], call_size: int) -> Iterator[tuple[list[Item], int]]:
    """Lists of exactly `call_size`, in order, the last padded with its last item, each with how many are real."""
    for start in range(0, len(items), call_size):
        batch = list(items[start : start + call_size])
        yield batch + batch[-1:] * (call_size - len(batch)), len(batch)
