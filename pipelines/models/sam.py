"""Segment Anything by the segment-anything package: masks of boxes and points (Kirillov et al. 2023)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from segment_anything import sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn

from pipelines.errors import InfrastructureError
from pipelines.models import RGB, Candidates
from pipelines.models.calls import batches, device
from pipelines.models.opening import made_ready
from pipelines.recipe.settings import SegmentSettings


class SamSegmenter:
    """A Segmenter: three candidates a prompt, each with the IoU that SAM predicts for it.

    Pictures are encoded `call_size` at a time; prompts are decoded one at a time, and answers come as they are asked
    for, so that never more than one picture's masks are in memory at its full size.
    """

    def __init__(self, network: Sam, settings: SegmentSettings) -> None:
        self.sam = network
        self.resize = ResizeLongestSide(network.image_encoder.img_size)
        self.call_size = settings.call_size
        self.threads = settings.threads

    def __call__(
        self, images: Sequence[RGB], prompts: Sequence[Sequence[NDArray[np.float32]]]
    ) -> Iterator[list[Candidates]]:
        """One list an image, in order; an image without prompts is not encoded."""
        prompted = [number for number, some in enumerate(prompts) if len(some)]
        answered = 0
        for batch, count in batches(prompted, self.call_size):
            resized = [self.resize.apply_image(images[number]) for number in batch[:count]]
            embeddings = self._encode(resized + resized[-1:] * (len(batch) - count))
            for number, small, embedding in zip(batch[:count], resized, embeddings, strict=False):
                yield from ([] for _ in range(answered, number))
                size_hw = images[number].shape[:2]
                yield [self._decode(embedding, small.shape[:2], size_hw, prompt) for prompt in prompts[number]]
                answered = number + 1
        yield from ([] for _ in range(answered, len(images)))

    @torch.inference_mode()
    def _encode(self, resized: list[RGB]) -> Tensor:
        torch.set_num_threads(self.threads)
        squares = [self.sam.preprocess(torch.from_numpy(one).permute(2, 0, 1).to(device())) for one in resized]
        embeddings: Tensor = self.sam.image_encoder(torch.stack(squares))
        return embeddings

    @torch.inference_mode()
    def _decode(
        self, embedding: Tensor, small_hw: tuple[int, int], size_hw: tuple[int, int], prompt: NDArray[np.float32]
    ) -> Candidates:
        torch.set_num_threads(self.threads)
        sparse, dense = self.sam.prompt_encoder(**self._prompt(prompt, size_hw), masks=None)
        logits, ious = self.sam.mask_decoder(
            image_embeddings=embedding[None],
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        masks = np.empty((logits.shape[1], *size_hw), np.bool_)
        for number, one in enumerate(logits.split(1, dim=1)):  # one at a time: full-size logits take 4 bytes a pixel
            large = self.sam.postprocess_masks(one, small_hw, size_hw)  # cuts the padding before it resizes
            masks[number] = (large[0, 0] > self.sam.mask_threshold).cpu().numpy()
        return Candidates(masks, ious[0].float().cpu().numpy())

    def _prompt(self, prompt: NDArray[np.float32], size_hw: tuple[int, int]) -> dict[str, Any]:
        if prompt.ndim == 1:
            box = torch.from_numpy(self.resize.apply_boxes(prompt[None], size_hw)).float().to(device())
            return {"points": None, "boxes": box}
        places = torch.from_numpy(self.resize.apply_coords(prompt[:, :2], size_hw)).float().to(device())
        return {"points": (places[None], torch.from_numpy(prompt[None, :, 2]).int().to(device())), "boxes": None}


def build_sam(config: Mapping[str, Any]) -> Sam:
    """A Sam with the constructor numbers of a `config.json`, weights not loaded."""
    prompts = {name: tuple(one) if isinstance(one, list) else one for name, one in config["prompt_encoder"].items()}
    transformer = TwoWayTransformer(**config["transformer"])
    return Sam(
        ImageEncoderViT(norm_layer=partial(nn.LayerNorm, eps=1e-6), **config["image_encoder"]),
        PromptEncoder(**prompts),
        MaskDecoder(transformer=transformer, **config["mask_decoder"]),
        config["pixel_mean"],
        config["pixel_std"],
    )


def load_network(path: Path, read_weights: bool = True) -> Sam:
    """Load a folder of `config.json` and `model.safetensors`, or an official `sam_vit_{h,l,b}*.pth`.

    Without `read_weights` names and shapes alone, on torch's meta device.

    Raises:
        InfrastructureError: the path is neither, or its weights are not those of the network.
    """
    where = "cpu" if read_weights else "meta"
    with torch.device(where):
        sam = _of_folder(path) if path.is_dir() else _official(path)
    if path.is_dir():
        weights = {name: one.float() for name, one in _read(path / "model.safetensors", where).items()}
    else:
        weights = torch.load(path, map_location=where, weights_only=True)
    try:
        sam.load_state_dict(weights)
    except RuntimeError as error:
        raise InfrastructureError(f"{path} does not fill its network: {error}; fetch it again") from error
    return cast("Sam", made_ready(sam, read_weights))


def _of_folder(path: Path) -> Sam:
    return build_sam(json.loads((path / "config.json").read_text(encoding="utf-8")))


def _official(path: Path) -> Sam:
    named = re.match(r"sam_(vit_[hlb])", path.name)
    if named is None:
        raise InfrastructureError(
            f"{path.name!r} is no official SAM checkpoint; expected a name such as sam_vit_b_01ec64.pth"
        )
    sam: Sam = sam_model_registry[named[1]]()
    return sam


def _read(file: Path, where: str) -> dict[str, Tensor]:
    if where != "meta":
        return load_file(file)
    with safe_open(file, framework="pt") as opened:
        return {name: torch.empty(opened.get_slice(name).get_shape(), device="meta") for name in opened.keys()}  # noqa: SIM118  # no dict
