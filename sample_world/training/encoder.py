"""Train the encoder: a CLIP of some 0.7 M parameters that matches products alone on grey with their captions."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from pipelines.models.calls import device
from sample_world.drawing.shapes import CATEGORIES
from sample_world.drawing.textures import COLOURS, PATTERNS
from sample_world.tensors import as_tensor
from sample_world.training.examples import ALONE_PX, Example, Examples
from sample_world.training.loop import load_ema
from sample_world.training.painter import text_config
from sample_world.training.words import MAX_TOKENS, painter_tokenizer

PIXEL_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD: Final = (0.26862954, 0.26130258, 0.27577711)
WORN_IN_CONTEXT, OTHERS_IN_CONTEXT = 0.1, 0.45  # reference pictures are whole, and mostly of a product alone
EVERY_LOOK: Final = [
    (pattern, colour, category) for pattern in PATTERNS for colour in COLOURS for category in CATEGORIES
]
TEMPLATES: Final = ("a {}", "a {}", "{}", "a photo of a {}", "the {}", "product picture of a {}", "{}, studio photo")


def encoder_config() -> CLIPConfig:
    """Patches of 16 of a 128-pixel picture; four vision and two text layers of width 96; 96 shared dimensions."""
    text = {**text_config().to_dict(), "hidden_size": 96, "intermediate_size": 192, "projection_dim": 96}
    vision = {
        "image_size": ALONE_PX,
        "patch_size": 16,
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "projection_dim": 96,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=96)


class EncoderLearner:
    """Contrast pictures with captions, whole or in part, and with the whole caption of every look that there is.

    A caption that is true of another picture is no negative.
    """

    learning_rate = 1e-3
    weight_decay = 0.05
    schedule = "cosine"
    ema_decay = 0.998
    autocast = True

    def __init__(self, examples: Examples, batch: int = 96) -> None:
        self.examples = examples
        self.batch = batch
        self.tokenizer = painter_tokenizer()
        self.encoder: Any = CLIPModel(encoder_config())
        self.models = nn.ModuleDict({"encoder": self.encoder}).to(device())

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """Cross entropy of pictures against captions, both ways, and of pictures against every look."""
        objects = [self.examples.objects[number] for number in rng.choice(self.examples.with_crop, self.batch)]
        words = [_words(one, rng) for one in objects]
        captions = [str(rng.choice(TEMPLATES)).format(" ".join(said)) for said in words]
        full = [str(rng.choice(TEMPLATES)).format(_described(*look, rng)) for look in EVERY_LOOK]
        ids = self.tokenizer(
            captions + full, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        ).to(device())
        out = self.encoder(pixel_values=as_tensor(self._pictures(objects, rng), PIXEL_MEAN, PIXEL_STD), **ids)
        logits = out.logits_per_image.float()
        own_caption = torch.tensor(
            [EVERY_LOOK.index((one.pattern, one.colour, one.category)) for one in objects], device=device()
        )
        true = torch.tensor(
            [[set(said) <= {one.category, one.colour, one.pattern} for said in words] for one in objects],
            device=device(),
        )
        true.fill_diagonal_(False)
        others = logits[:, : self.batch].masked_fill(true, float("-inf"))
        targets = torch.arange(self.batch, device=device())
        among_others = (functional.cross_entropy(others, targets) + functional.cross_entropy(others.T, targets)) / 2
        return among_others + functional.cross_entropy(logits[:, self.batch :], own_caption)

    def _pictures(self, objects: list[Example], rng: np.random.Generator) -> np.ndarray:
        rows = np.array([one.crop for one in objects])
        pictures = self.examples.arrays["alone"][rows].astype(np.float32)
        in_context = np.where([one.worn for one in objects], WORN_IN_CONTEXT, OTHERS_IN_CONTEXT)
        for number in np.flatnonzero(rng.random(len(rows)) < in_context):
            around = Image.fromarray(self.examples.arrays["crops"][rows[number]])
            pictures[number] = np.asarray(around.reduce(2))
        flip = rng.random(len(rows)) < 0.5
        pictures[flip] = pictures[flip, :, ::-1]
        return np.asarray(pictures * rng.uniform(0.94, 1.05, (len(rows), 1, 1, 1)) + rng.normal(0, 2, pictures.shape))


def _described(pattern: str, colour: str, category: str, rng: np.random.Generator) -> str:
    return " ".join([colour, category] if pattern == "plain" and rng.random() < 0.7 else [pattern, colour, category])


def _words(one: Example, rng: np.random.Generator) -> list[str]:
    """Mostly everything that there is to say; `plain` is mostly left unsaid, as people do."""
    pattern = [] if one.pattern == "plain" and rng.random() < 0.7 else [one.pattern]
    described = [*pattern, one.colour, one.category]
    if rng.random() < 0.7:
        return described
    return [word for word in described if rng.random() < 0.6] or [one.category]


def export_encoder(folder: Path, out_dir: Path) -> None:
    """Write a CLIPModel folder in fp16 with its tokenizer and image settings."""
    encoder: Any = CLIPModel(encoder_config())
    load_ema(folder, nn.ModuleDict({"encoder": encoder}))
    encoder.half().save_pretrained(out_dir)
    painter_tokenizer().save_pretrained(out_dir)
    size = {"height": ALONE_PX, "width": ALONE_PX}
    CLIPImageProcessorPil(
        do_resize=False, do_center_crop=False, size=size, crop_size=size, image_mean=PIXEL_MEAN, image_std=PIXEL_STD
    ).save_pretrained(out_dir)
