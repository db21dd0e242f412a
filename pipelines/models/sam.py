"""Segment Anything by the segment-anything package: masks of boxes and points, or of all (Kirillov et al. 2023)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco
from safetensors import safe_open
from safetensors.torch import load_file
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry
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
from pipelines.models import Call, Candidates, Grid, Proposals
from pipelines.models.calls import batches, inference
from pipelines.models.files import PICKLES, described, weight_names
from pipelines.models.opening import made_ready
from pipelines.pixels.images import Rgb, thumbnail
from pipelines.pixels.masks import to_rle

OPENS = (
    "the first Segment Anything: an official sam_vit_h, sam_vit_l or sam_vit_b .pth, or a folder that `packshot train` "
    "wrote"
)
OFFICIAL = re.compile(r"sam_(vit_[hlb])")
PARTS = {"image_encoder", "prompt_encoder", "mask_decoder"}
NAMED_IN_WEIGHTS = (b"image_encoder.neck", b"mask_decoder.")
NAMED_IN_OTHERS = (b"hf_token", b"image_encoder.patch_embed.seq", b"sam_mask_decoder.")  # SAM-HQ, MobileSAM, SAM 2
Masks = list[dict[str, Any]]


class SamSegmenter:
    """A Segmenter: three candidates a prompt, each with the IoU that SAM predicts for it.

    Pictures are encoded `call_size` at a time; prompts are decoded one at a time, and answers come as they are asked
    for, so that never more than one picture's masks are in memory at its full size.
    """

    def __init__(self, network: Sam, call: Call) -> None:
        self.sam = network
        self.resize = ResizeLongestSide(network.image_encoder.img_size)
        self.call = call

    def __call__(
        self, images: Sequence[Rgb], prompts: Sequence[Sequence[NDArray[np.float32]]]
    ) -> Iterator[list[Candidates]]:
        """One list an image, in order; an image without prompts is not encoded."""
        prompted = [number for number, some in enumerate(prompts) if len(some)]
        answered = 0
        for batch, count in batches(prompted, self.call.call_size):
            resized = [self.resize.apply_image(images[number]) for number in batch[:count]]
            embeddings = self._encode(resized + resized[-1:] * (len(batch) - count))
            for number, small, embedding in zip(batch[:count], resized, embeddings, strict=False):
                yield from ([] for _ in range(answered, number))
                size_hw = images[number].shape[:2]
                yield [self._decode(embedding, small.shape[:2], size_hw, prompt) for prompt in prompts[number]]
                answered = number + 1
        yield from ([] for _ in range(answered, len(images)))

    def _encode(self, resized: list[Rgb]) -> Tensor:
        pixels = [torch.from_numpy(one).permute(2, 0, 1).to(self.call.device) for one in resized]
        with inference(self.call):
            embeddings: Tensor = self.sam.image_encoder(torch.stack([self.sam.preprocess(one) for one in pixels]))
            return embeddings

    def _decode(
        self, embedding: Tensor, small_hw: tuple[int, int], size_hw: tuple[int, int], prompt: NDArray[np.float32]
    ) -> Candidates:
        with inference(self.call):
            sparse, dense = self.sam.prompt_encoder(**self._prompt(prompt, size_hw), masks=None)
            logits, ious = self.sam.mask_decoder(
                image_embeddings=embedding[None],
                image_pe=self.sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            masks = np.empty((logits.shape[1], *size_hw), np.bool_)
            # One at a time: full-size logits take 4 bytes a pixel.
            for number, one in enumerate(logits.split(1, dim=1)):
                large = self.sam.postprocess_masks(one, small_hw, size_hw)  # cuts the padding before it resizes
                masks[number] = (large[0, 0] > self.sam.mask_threshold).cpu().numpy()
            return Candidates(masks, ious[0].float().cpu().numpy())

    def _prompt(self, prompt: NDArray[np.float32], size_hw: tuple[int, int]) -> dict[str, Any]:
        device = self.call.device
        if prompt.ndim == 1:
            box = torch.from_numpy(self.resize.apply_boxes(prompt[None], size_hw)).float().to(device)
            return {"points": None, "boxes": box}
        places = torch.from_numpy(self.resize.apply_coords(prompt[:, :2], size_hw)).float().to(device)
        return {"points": (places[None], torch.from_numpy(prompt[None, :, 2]).int().to(device)), "boxes": None}


class SamProposer:
    """A Proposer: `SamAutomaticMaskGenerator` on a copy no larger than the network's input.

    A point says little of how far a thing reaches, a box nearly all: in each of `box_rounds`, SAM segments the box
    round each mask again, and the candidate with the highest predicted IoU replaces the mask. Pictures are segmented
    one at a time, so an answer never depends on batch mates. The samples of a call are points.

    Source: the point grid, its thresholds and its suppression of doubles are Kirillov et al. 2023, arXiv:2304.02643,
    appendix B, by its authors' code.
    """

    def __init__(self, network: Sam, call: Call, grid: Grid) -> None:
        self.generator = SamAutomaticMaskGenerator(
            network,
            points_per_side=grid.points_per_side,
            points_per_batch=call.call_size,
            pred_iou_thresh=grid.min_predicted_iou,
            stability_score_thresh=grid.min_stability,
            box_nms_thresh=grid.box_nms_iou,
            crop_n_layers=grid.crop_layers,
            crop_n_points_downscale_factor=2,
            output_mode="coco_rle",
        )
        self.segmenter = SamSegmenter(network, replace(call, call_size=1))
        self.box_rounds = grid.box_rounds
        # Each layer of crops halves the side of what is encoded at once, so the copy may be twice as large.
        self.longest_px = network.image_encoder.img_size * 2**grid.crop_layers
        self.call = call

    def __call__(self, images: Sequence[Rgb]) -> Iterator[Proposals]:
        """One answer an image, in order, made when it is asked for."""
        for image in images:
            yield self._propose(thumbnail(image, self.longest_px))

    def _propose(self, small: Rgb) -> Proposals:
        found = self._generated(small)
        masks = [one["segmentation"] for one in found]
        ious = np.array([one["predicted_iou"] for one in found], np.float32)
        for _ in range(self.box_rounds):
            masks, ious = self._cut_again(small, masks)
        return Proposals(tuple(masks), ious)

    def _generated(self, small: Rgb) -> Masks:
        try:
            with inference(self.call):
                found: Masks = self.generator.generate(small)
        except IndexError:  # what the package raises where it looks at crops and no crop has a mask
            if self.generator.crop_n_layers == 0:
                raise
            return []
        return found

    def _cut_again(self, small: Rgb, masks: Masks) -> tuple[Masks, NDArray[np.float32]]:
        boxes = [np.array(_box_xyxy(mask), np.float32) for mask in masks]
        (candidates,) = self.segmenter([small], [boxes])
        best = [(one, int(np.argmax(one.predicted_ious))) for one in candidates]
        ious = np.array([one.predicted_ious[index] for one, index in best], np.float32)
        return [to_rle(one.masks[index]) for one, index in best], ious


def _box_xyxy(mask_rle: dict[str, Any]) -> tuple[float, float, float, float]:
    left, top, width, height = coco.toBbox(mask_rle)
    return left, top, left + width, top + height


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


make_segmenter = SamSegmenter
make_proposer = SamProposer


def opens(path: Path) -> bool:
    """Whether a path is a folder with a config of SAM's parts, or a file that names their weights.

    A file whose weights' names cannot be read is known by its own name.
    """
    if path.is_dir():
        return described(path / "config.json").keys() >= PARTS
    if path.suffix not in PICKLES:
        return False
    if names := weight_names(path):
        return all(one in names for one in NAMED_IN_WEIGHTS) and not any(one in names for one in NAMED_IN_OTHERS)
    return OFFICIAL.match(path.name) is not None


def load(path: Path, call: Call) -> Sam:
    """Load a folder of `config.json` and `model.safetensors`, or an official `sam_vit_{h,l,b}*.pth`.

    Raises:
        InfrastructureError: the path is neither, or its weights are not those of the network.
    """
    where = "meta" if call.device == "meta" else "cpu"
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
    return cast("Sam", made_ready(sam, call))


def _of_folder(path: Path) -> Sam:
    return build_sam(json.loads((path / "config.json").read_text(encoding="utf-8")))


def _official(path: Path) -> Sam:
    named = OFFICIAL.match(path.name)
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
