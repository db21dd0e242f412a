"""Train the judges that say what painted pictures show: pattern and category of a product, and the background.

They see true pictures alone, roughened as a painter's are: softened, noisy, with JPEG's blocks.
"""

import io
import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from pipelines.models.calls import device
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import grow
from sample_world.evaluation.judge import (
    BACKGROUND,
    PRODUCT,
    Answers,
    JudgeNetwork,
    background_square,
    boxed,
    product_square,
)
from sample_world.tensors import as_tensor
from sample_world.training.examples import Examples
from sample_world.training.loop import load_ema

NETWORKS: Final[dict[str, Answers]] = {"product": PRODUCT, "background": BACKGROUND}
ALONE_SHARE, GROWN_SHARE = 0.35, 0.3  # the rest is cut by a box
MOST_GROWN_PX: Final = 8
MOST_BLUR_PX: Final = 1.3


class JudgeLearner:
    """Name what true pictures show; both networks learn at every step, from as many pictures each.

    `product` sees a product by its exact mask, by its mask grown over what is round it (as a repaint's is), or by its
    box.
    """

    learning_rate = 2e-3
    weight_decay = 0.02
    schedule = "cosine"
    ema_decay = 0.998
    autocast = True

    def __init__(self, examples: Examples, batch: int = 64) -> None:
        self.examples = examples
        self.batch = batch
        self.models = _networks().to(device())

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Cross entropy of both networks' answers."""
        products, shown = zip(*(self._product(rng) for _ in range(self.batch)), strict=True)
        behind, names = zip(*(self._background(rng) for _ in range(self.batch)), strict=True)
        return self._wrong("product", products, shown, rng) + self._wrong("background", behind, names, rng)

    def _wrong(
        self, name: str, squares: tuple[Rgb, ...], said: tuple[dict[str, str], ...], rng: np.random.Generator
    ) -> Tensor:
        pixels = as_tensor(np.stack([roughened(square, rng) for square in squares]))
        total = torch.zeros((), device=device())
        for question, logits in self.models[name](pixels).items():
            words = NETWORKS[name][question]
            true = torch.tensor([words.index(one[question]) for one in said], device=device())
            total = total + functional.cross_entropy(logits.float(), true)
        return total

    def _product(self, rng: np.random.Generator) -> tuple[Rgb, dict[str, str]]:
        examples = self.examples
        one = examples.objects[int(rng.choice(examples.with_crop))]
        said = {"pattern": one.pattern, "category": one.category}
        kind = rng.random()
        if kind < ALONE_SHARE:
            return examples.arrays["alone"][one.crop], said
        mask = examples.masks("crop_masks", [one.crop or 0])[0]
        cut_by = grow(mask, int(rng.integers(MOST_GROWN_PX + 1)))
        if kind >= ALONE_SHARE + GROWN_SHARE:
            cut_by = boxed(cut_by)
        return product_square(examples.arrays["crops"][one.crop], cut_by), said

    def _background(self, rng: np.random.Generator) -> tuple[Rgb, dict[str, str]]:
        examples = self.examples
        row = int(rng.integers(len(examples.of_scene)))
        products = examples.masks("scene_masks", examples.of_scene[row]).any(0)
        grown = grow(np.asarray(products), int(rng.integers(MOST_GROWN_PX + 1)))
        return background_square(examples.arrays["scenes"][row], grown), {"background": examples.backgrounds[row]}


def roughened(square: Rgb, rng: np.random.Generator) -> Rgb:
    """A picture (128, 128, 3) as a painter might have made it: mirrored or not, lighter, darker, soft, noisy, JPEG."""
    if rng.random() < 0.5:
        square = square[:, ::-1]
    levels = square * rng.uniform(0.9, 1.08) + rng.normal(0, rng.uniform(0, 5), square.shape)
    image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, MOST_BLUR_PX)))
    if rng.random() < 0.5:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(30, 95)))
        image = Image.open(file)
    return np.asarray(image)


def export_judge(folder: Path, out_dir: Path) -> None:
    """Write `config.json` (the words of each answer), and `product` and `background` as safetensors in fp16."""
    networks = _networks()
    load_ema(folder, networks)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "config.json").write_text(json.dumps(NETWORKS, indent=2) + "\n")
    for name, network in networks.items():
        weights = {key: value.half().contiguous() for key, value in network.state_dict().items()}
        save_file(weights, out_dir / f"{name}.safetensors")


def _networks() -> nn.ModuleDict:
    return nn.ModuleDict({name: JudgeNetwork(answers) for name, answers in NETWORKS.items()})
