"""CLIP in transformers: pictures and texts in one space (Radford et al. 2021, arXiv:2103.00020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, CLIPModel

from pipelines.models import Call
from pipelines.models.calls import batches, inference, normalised
from pipelines.models.files import TRANSFORMERS, model_type
from pipelines.models.opening import check_tokenizer, load_tokenizer, made_ready, open_network
from pipelines.pixels.images import Rgb

OPENS = "CLIP: a transformers folder of type clip"
Item = TypeVar("Item")


@dataclass(frozen=True)
class ClipNetwork:
    """A loaded CLIP, and how it wants its inputs: `side_px` square pictures, texts of exactly `max_tokens`."""

    model: Any
    tokenizer: Any
    side_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_tokens: int


class ClipEncoder:
    """An Encoder: unit vectors whose product is the cosine; longer texts are cut to the model's length."""

    def __init__(self, network: ClipNetwork, call: Call) -> None:
        self.network = network
        self.side_px = network.side_px
        self.call = call

    def embed_images(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """(N, D) of N square pictures of any side, each resized once.

        Raises:
            ValueError: a picture is not square.
        """
        return self._embed([self._resized(image) for image in images], self._image_features)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) of N texts."""
        return self._embed(texts, self._text_features)

    def _resized(self, image: Rgb) -> Rgb:
        height, width = image.shape[:2]
        if height != width:
            raise ValueError(f"a picture of {width} x {height} pixels reached the encoder; expected a square crop")
        side = self.side_px
        if side == width:
            return image
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))

    def _embed(self, items: Sequence[Item], features: Callable[[list[Item]], Tensor]) -> NDArray[np.float32]:
        parts = [np.zeros((0, self.network.model.config.projection_dim), np.float32)]
        with inference(self.call):
            for batch, count in batches(items, self.call.call_size):
                unit = torch.nn.functional.normalize(features(batch).float(), dim=-1)
                parts.append(unit[:count].cpu().numpy())
        return np.concatenate(parts)

    def _image_features(self, squares: list[Rgb]) -> Tensor:
        pixels = normalised(squares, self.network.mean, self.network.std, self.call.device)
        features: Tensor = self.network.model.get_image_features(pixel_values=pixels).pooler_output
        return features

    def _text_features(self, texts: list[str]) -> Tensor:
        tokens = self.network.tokenizer(
            texts, padding="max_length", max_length=self.network.max_tokens, truncation=True, return_tensors="pt"
        ).to(self.call.device)
        features: Tensor = self.network.model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        return features


make_encoder = ClipEncoder


def opens(path: Path) -> bool:
    """Whether a path is a transformers folder of a CLIP."""
    return path.is_dir() and model_type(path) == "clip"


def load(path: Path, call: Call) -> ClipNetwork:
    """Load a folder of `CLIPModel`.

    Raises:
        InfrastructureError: weights are missing or misshapen, or the tokenizer is not the model's.
    """
    model: Any = open_network(CLIPModel, path, TRANSFORMERS, call)
    tokenizer = load_tokenizer(path)
    check_tokenizer(tokenizer, model.config.text_config.vocab_size, path)
    pictures = AutoImageProcessor.from_pretrained(path, local_files_only=True)  # type: ignore[no-untyped-call]  # not annotated
    return ClipNetwork(
        model=made_ready(model, call),
        tokenizer=tokenizer,
        side_px=model.config.vision_config.image_size,
        mean=tuple(pictures.image_mean),
        std=tuple(pictures.image_std),
        max_tokens=model.config.text_config.max_position_embeddings,
    )
