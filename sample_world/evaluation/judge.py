"""Say what a picture shows without the pipeline's own CLIP: two small networks, and a ruler for colours.

The judges know the sample world alone. They are trained by `training.judge` on true pictures, roughened, and
never on anything that the painter made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.ndimage import binary_erosion
from skimage.color import rgb2lab
from torch import Tensor, nn

from pipelines.models.calls import device
from pipelines.pixels.crops import GREY, letterbox, neutral_crop
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import bounding_box
from sample_world.drawing.shapes import CATEGORIES
from sample_world.drawing.textures import BACKGROUNDS, COLOURS, PATTERNS
from sample_world.tensors import as_tensor

JUDGE_PX: Final = 128
WIDTHS: Final = (24, 48, 80, 112, 112)
RIM_PX: Final = 3
MIN_INNER_PX: Final = 40
BATCH: Final = 64
Answers = Mapping[str, Sequence[str]]
"""The questions of a judge, and the words that answer each."""
PRODUCT: Final[Answers] = {"pattern": PATTERNS, "category": CATEGORIES}
BACKGROUND: Final[Answers] = {"background": BACKGROUNDS}


class JudgeNetwork(nn.Module):
    """Pictures (N, 3, 128, 128), 0 to 1 -> for each question the logits (N, answers) of its words.

    0.25 M parameters: five convolutions that halve the side, then the mean and the maximum over the picture.
    """

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(inside, outside, 3, 2, 1), nn.GroupNorm(8, outside), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * WIDTHS[-1], len(words)) for name, words in answers.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """The logits of every question for pictures (N, 3, 128, 128) of 0 to 1."""
        seen = self.body(pixels * 2 - 1)
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        return {name: head(pooled) for name, head in self.heads.items()}


@dataclass(frozen=True)
class PictureJudge:
    """A loaded network, and the words that its answers stand for."""

    network: JudgeNetwork
    answers: Answers

    @torch.inference_mode()
    def __call__(self, squares: Sequence[Rgb]) -> list[dict[str, str]]:
        """The likeliest word for each question, a picture (128, 128, 3) at a time."""
        said = []
        for first in range(0, len(squares), BATCH):
            logits = self.network(as_tensor(np.stack(squares[first : first + BATCH])))
            best = {name: some.argmax(1).tolist() for name, some in logits.items()}
            said += [
                {name: self.answers[name][numbers[row]] for name, numbers in best.items()}
                for row in range(len(squares[first : first + BATCH]))
            ]
        return said


def load_judge(folder: Path, name: str) -> PictureJudge:
    """The judge `product` (of pattern and category) or `background`, from a folder that `export_judge` wrote."""
    answers: Answers = json.loads((folder / "config.json").read_text(encoding="utf-8"))[name]
    network = JudgeNetwork(answers)
    network.load_state_dict({key: one.float() for key, one in load_file(folder / f"{name}.safetensors").items()})
    return PictureJudge(network.eval().to(device()), answers)


def product_square(rgb: Rgb, mask: NDArray[np.bool_]) -> Rgb:
    """What `product` judges: the pixels of a mask, or of a box, alone on grey."""
    return neutral_crop(rgb, mask, JUDGE_PX)


def boxed(mask: NDArray[np.bool_], by_px: int = 0) -> NDArray[np.bool_]:
    """The box round a mask (H, W), as a mask; `by_px` larger on every side, within the picture."""
    left, top, right, bottom = bounding_box(mask)
    box = np.zeros_like(mask)
    box[max(0, top - by_px) : bottom + by_px, max(0, left - by_px) : right + by_px] = True
    return box


def background_square(rgb: Rgb, products: NDArray[np.bool_]) -> Rgb:
    """What `background` judges: the whole picture, its products painted out with grey."""
    return letterbox(np.where(products[..., None], np.uint8(GREY), rgb), JUDGE_PX)[0]


def nearest_colour(rgb: Rgb, mask: NDArray[np.bool_]) -> str:
    """Which of the ten colours the mask's median is nearest to in CIELAB; the rim, which is blended, is left out."""
    inner = binary_erosion(mask, iterations=RIM_PX)
    inside = rgb[inner if inner.sum() > MIN_INNER_PX else mask]
    lab = rgb2lab(np.median(inside, 0) / 255)
    named = rgb2lab(np.array([list(COLOURS.values())]) / 255)[0]
    return list(COLOURS)[int(((named - lab) ** 2).sum(1).argmin())]
