"""How every adapter calls its network: one device, batch shape and thread count, so that batch mates change no bit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import InfrastructureError
from pipelines.models import Call
from pipelines.pixels.images import Rgb

Item = TypeVar("Item")


def device() -> Literal["cpu", "cuda"]:
    """The GPU if there is one, else the CPU.

    Raises:
        InfrastructureError: this process was given a GPU, as by Ray, and torch cannot use it.
    """
    if torch.cuda.is_available():
        return "cuda"
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES", "")) not in ("", "-1", "NoDevFiles"):
        raise InfrastructureError(
            f"this process was given the GPU {given!r} and torch {torch.__version__} cannot use it, mostly since the "
            "driver is older than torch's CUDA; update the driver, or take `--placement local` and unset "
            "CUDA_VISIBLE_DEVICES to run on the CPU"
        )
    return "cpu"


@contextmanager
def inference(call: Call) -> Iterator[None]:
    """Run what is inside without gradients, on the CPU threads of the call."""
    torch.set_num_threads(call.threads)
    with torch.inference_mode():
        yield


def batches(items: Sequence[Item], call_size: int) -> Iterator[tuple[list[Item], int]]:
    """Lists of exactly `call_size`, in order, the last padded with its last item, each with how many are real."""
    for start in range(0, len(items), call_size):
        batch = list(items[start : start + call_size])
        yield batch + batch[-1:] * (call_size - len(batch)), len(batch)


def normalised(pictures: Sequence[Rgb], mean: Sequence[float], std: Sequence[float], device: str) -> Tensor:
    """N pictures (H, W, 3) of one size as a float32 tensor (N, 3, H, W), each channel normalised.

    Args:
        pictures: at least one.
        mean: of each channel, which is scaled to 0..1 before; it is subtracted.
        std: of each channel; it divides.
        device: where the tensor lies.
    """
    scaled = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float() / 255
    middle = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    return (scaled - middle) / torch.tensor(std, device=device).view(1, 3, 1, 1)


def parameter_bytes(network: Any) -> int:
    """The bytes of a network's parameters and buffers; of an object, those of the networks among its attributes."""
    held = [network] if isinstance(network, nn.Module) else list(getattr(network, "__dict__", {}).values())
    modules = [one for one in held if isinstance(one, nn.Module)]
    return sum(one.nbytes for module in modules for one in (*module.parameters(), *module.buffers()))
