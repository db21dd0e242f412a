"""Pictures as the networks of the sample world take them: one definition for training and for evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from pipelines.models.calls import device

Channels = tuple[float, float, float]


def as_tensor(pictures: NDArray[Any], mean: Channels = (0.0, 0.0, 0.0), std: Channels = (1.0, 1.0, 1.0)) -> Tensor:
    """Pictures (N, H, W, 3) of 0 to 255 -> float32 (N, 3, H, W) on the device: (level / 255 - mean) / std a channel.

    Levels beyond 0 and 255 are cut off, as 8 bits would. By default the result is 0 to 1; with a mean and a deviation
    of a half it is -1 to 1.
    """
    fractions = np.clip(pictures, 0, 255).astype(np.float32) / np.float32(255)
    scaled = (fractions - np.array(mean, np.float32)) / np.array(std, np.float32)
    return from_numpy(scaled).permute(0, 3, 1, 2).contiguous().to(device())
