"""Train the segmenter: Segment Anything's own classes, small, at 256 pixels, prompted with boxes and points."""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from pipelines.models.calls import device
from pipelines.models.sam import build_sam
from sample_world.training.examples import SIDE_PX, Examples
from sample_world.training.loop import load_ema

CONFIG: Final[dict[str, Any]] = {
    "image_encoder": {
        "img_size": SIDE_PX,
        "patch_size": 8,
        "embed_dim": 96,
        "depth": 5,
        "num_heads": 3,
        "mlp_ratio": 4,
        "out_chans": 64,
        "qkv_bias": True,
        "use_rel_pos": False,
        "window_size": 8,
        "global_attn_indexes": [2],
    },
    "prompt_encoder": {
        "embed_dim": 64,
        "image_embedding_size": [32, 32],
        "input_image_size": [SIDE_PX, SIDE_PX],
        "mask_in_chans": 16,
    },
    "transformer": {"depth": 2, "embedding_dim": 64, "mlp_dim": 256, "num_heads": 4},
    "mask_decoder": {"num_multimask_outputs": 3, "transformer_dim": 64, "iou_head_depth": 3, "iou_head_hidden_dim": 64},
    # The padding is 0 after normalisation, so a mean of 128 makes it the mid-grey of `letterbox`.
    "pixel_mean": [128.0, 128.0, 128.0],
    "pixel_std": [64.0, 64.0, 64.0],
}
PROMPTS_A_PICTURE: Final = 2
BOX_JITTER: Final = 0.1
POINT_SHARE: Final = 0.15


class SegmenterLearner:
    """Whole scenes and products' surroundings in turn; the best of three masks learns, each learns how good it is."""

    learning_rate = 8e-4
    weight_decay = 0.01
    schedule = "cosine"
    ema_decay = 0.998
    autocast = True

    def __init__(self, examples: Examples, batch: int = 8) -> None:
        self.examples = examples
        self.batch = batch
        self.sam: Any = build_sam(CONFIG).to(device())
        self.models = nn.ModuleDict({"segmenter": self.sam})

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """The mean `mask_loss` of one batch of prompts."""
        sam = self.sam
        pictures, shown = zip(*(self._example(number % 2 == 0, rng) for number in range(self.batch)), strict=True)
        inputs = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().to(device())
        embeddings = sam.image_encoder((inputs - sam.pixel_mean) / sam.pixel_std)
        masks = np.concatenate(shown)
        sparse, dense = self._prompts(masks, rng)

        def decode(embedding: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
            drawn, scores = sam.mask_decoder.predict_masks(
                embedding[None], sam.prompt_encoder.get_dense_pe(), sparse, dense
            )
            return drawn, scores

        few_sparse, few_dense = (
            some.reshape(self.batch, PROMPTS_A_PICTURE, *some.shape[1:]) for some in (sparse, dense)
        )
        drawn, scores = torch.vmap(decode)(embeddings, few_sparse, few_dense)
        truth = torch.from_numpy(masks).to(device())
        return mask_loss(drawn.flatten(0, 1).float(), scores.flatten(0, 1).float(), truth).mean()

    def _example(self, whole: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A picture (256, 256, 3) and the masks of some of its products (PROMPTS_A_PICTURE, 256, 256)."""
        examples = self.examples
        number = int(rng.choice(examples.with_crop))
        one = examples.objects[number]
        if whole or one.crop is None:
            near = [other for other in examples.of_scene[one.scene] if examples.objects[other].crop is not None]
            picture = examples.arrays["scenes"][one.scene]
            masks = examples.masks("scene_masks", [number, *rng.choice(near, PROMPTS_A_PICTURE - 1)])
        else:
            picture = examples.arrays["crops"][one.crop]
            masks = examples.masks("crop_masks", [one.crop] * PROMPTS_A_PICTURE)
        return (picture[:, ::-1], masks[..., ::-1]) if rng.random() < 0.5 else (picture, masks)

    def _prompts(self, masks: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Boxes, or in one batch of some seven points, as the prompt encoder's sparse and dense embeddings."""
        encode = self.sam.prompt_encoder
        if rng.random() < POINT_SHARE:
            points = torch.from_numpy(np.stack([point_inside(mask, rng) for mask in masks])).to(device())
            encoded: tuple[Tensor, Tensor] = encode(
                (points[:, None], torch.ones(len(points), 1, device=device())), None, None
            )
        else:
            boxes = torch.from_numpy(np.stack([jittered_box(mask, rng) for mask in masks])).to(device())
            encoded = encode(None, boxes, None)
        return encoded


def jittered_box(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box round a mask, each side moved by some tenth of its length: (4,) pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    size = np.array([box[2] - box[0], box[3] - box[1]] * 2, np.float32)
    return np.asarray(np.clip(box + size * rng.normal(0, BOX_JITTER / 2, 4), 0, SIDE_PX), np.float32)


def point_inside(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Any pixel of a mask: (2,) x, y."""
    inside = np.argwhere(mask)
    return np.array(inside[rng.integers(len(inside)), ::-1], np.float32)


def mask_loss(drawn: Tensor, scores: Tensor, masks: Tensor) -> Tensor:
    """A loss for each prompt (N,), from logits (N, 4, h, w), predicted IoUs (N, 4) and true masks (N, H, W).

    Mask 0 is the answer to one unambiguous prompt; of the other three only the best learns, as in Segment Anything
    (Kirillov et al. 2023, arXiv:2304.02643): 20 times focal, and dice.
    """
    wanted = functional.interpolate(masks[:, None].float(), drawn.shape[-2:], mode="area").expand_as(drawn)
    entropy = functional.binary_cross_entropy_with_logits(drawn, wanted, reduction="none")
    probability = drawn.sigmoid()
    missed = (probability - wanted).abs()
    focal = (missed**2 * entropy).mean((2, 3))
    dice = 1 - (2 * (probability * wanted).sum((2, 3)) + 1) / (probability.sum((2, 3)) + wanted.sum((2, 3)) + 1)
    each = 20 * focal + dice
    with torch.no_grad():
        answered, true = drawn > 0, wanted >= 0.5
        iou = (answered & true).sum((2, 3)) / (answered | true).sum((2, 3)).clamp(min=1)
    return each[:, 0] + each[:, 1:].min(1).values + (scores - iou).pow(2).mean(1)


def export_segmenter(folder: Path, out_dir: Path) -> None:
    """Write `config.json` (every constructor number) and `model.safetensors` in fp16."""
    sam = build_sam(CONFIG)
    load_ema(folder, nn.ModuleDict({"segmenter": sam}))
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    # Float16 holds the random position frequencies and every weight to three digits; use is in fp32.
    save_file(
        {name: value.half().contiguous() for name, value in sam.state_dict().items()},
        out_dir / "model.safetensors",
    )
