"""How every adapter calls its network: one device, one batch shape, so that batch mates never change a bit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

from pipelines.errors import InfrastructureError

Item = TypeVar("Item")


def device() -> torch.device:
    """The GPU if there is one, else the CPU.

    Raises:
        InfrastructureError: this process was given a GPU, as by Ray, and torch cannot use it.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES", "")) not in ("", "-1", "NoDevFiles"):
        raise InfrastructureError(
            f"this process was given the GPU {given!r} and torch {torch.__version__} cannot use it, mostly since the "
            "driver is older than torch's CUDA; update the driver, or take `--placement local` and unset "
            "CUDA_VISIBLE_DEVICES to run on the CPU"
        )
    return torch.device("cpu")


def batches(items: Sequence[Item], call_size: int) -> Iterator[tuple[list[Item], int]]:
    """Lists of exactly `call_size`, in order, the last padded with its last item, each with how many are real."""
    for start in range(0, len(items), call_size):
        batch = list(items[start : start + call_size])
        yield batch + batch[-1:] * (call_size - len(batch)), len(batch)
