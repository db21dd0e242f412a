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

from pipelines.models import RGB
from pipelines.models.calls import batches, device
from pipelines.models.grounding_dino import load_tokenizer
from pipelines.models.opening import check_tokenizer, made_ready, open_network
from pipelines.models.weight_files import TRANSFORMERS
from pipelines.recipe.settings import ScoreSettings

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

    def __init__(self, network: ClipNetwork, settings: ScoreSettings) -> None:
        self.network = network
        self.side_px = network.side_px
        self.call_size = settings.call_size
        self.threads = settings.threads

    def embed_images(self, images: Sequence[RGB]) -> NDArray[np.float32]:
        """(N, D) of N square pictures of any side, each resized once.

        Raises:
            ValueError: a picture is not square.
        """
        return self._embed([self._fitted(image) for image in images], self._image_features)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) of N texts."""
        return self._embed(texts, self._text_features)

    def _fitted(self, image: RGB) -> RGB:
        height, width = image.shape[:2]
        if height != width:
            raise ValueError(f"a picture of {width} x {height} pixels reached the encoder; expected a square crop")
        side = self.side_px
        if side == width:
            return image
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))

    @torch.inference_mode()
    def _embed(self, items: Sequence[Item], features: Callable[[list[Item]], Tensor]) -> NDArray[np.float32]:
        torch.set_num_threads(self.threads)
        parts = [np.zeros((0, self.network.model.config.projection_dim), np.float32)]
        for batch, count in batches(items, self.call_size):
            unit = torch.nn.functional.normalize(features(batch).float(), dim=-1)
            parts.append(unit[:count].cpu().numpy())
        return np.concatenate(parts)

    def _image_features(self, squares: list[RGB]) -> Tensor:
        pixels = torch.from_numpy(np.stack(squares)).to(device()).permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(self.network.mean, device=device()).view(1, 3, 1, 1)
        std = torch.tensor(self.network.std, device=device()).view(1, 3, 1, 1)
        features: Tensor = self.network.model.get_image_features(pixel_values=(pixels - mean) / std).pooler_output
        return features

    def _text_features(self, texts: list[str]) -> Tensor:
        tokens = self.network.tokenizer(
            texts, padding="max_length", max_length=self.network.max_tokens, truncation=True, return_tensors="pt"
        ).to(device())
        features: Tensor = self.network.model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        return features


def load_network(path: Path, read_weights: bool = True) -> ClipNetwork:
    """Load a folder of `CLIPModel`; without `read_weights` all of it but them.

    Raises:
        InfrastructureError: weights are missing or misshapen, or the tokenizer is not the model's.
    """
    model: Any = open_network(CLIPModel, path, TRANSFORMERS, read_weights, dtype=torch.float32)
    tokenizer = load_tokenizer(path)
    check_tokenizer(tokenizer, model.config.text_config.vocab_size, path)
    pictures = AutoImageProcessor.from_pretrained(path, local_files_only=True)  # type: ignore[no-untyped-call]  # not annotated
    return ClipNetwork(
        model=made_ready(model, read_weights),
        tokenizer=tokenizer,
        side_px=model.config.vision_config.image_size,
        mean=tuple(pictures.image_mean),
        std=tuple(pictures.image_std),
        max_tokens=model.config.text_config.max_position_embeddings,
    )
