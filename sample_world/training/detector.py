"""Train the detector: a Grounding DINO of some 2 M parameters, with its own two-stage criterion.

The library's loss detaches the proposals, so the encoder's head would never learn from it; here the encoder's boxes
(each product to several) and those of every decoder layer (one to one) are all supervised.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SwinConfig,
)

from pipelines.models.calls import device
from sample_world.drawing.phrases import relations
from sample_world.drawing.shapes import CATEGORIES
from sample_world.drawing.textures import COLOURS
from sample_world.tensors import as_tensor
from sample_world.training.examples import DETECTOR_PX, Example, Examples
from sample_world.training.loop import load_ema
from sample_world.training.matching import Targets, set_loss
from sample_world.training.words import DETECTOR_IDS, FUNCTION_WORDS, detector_phrase, detector_tokenizer

WIDTH: Final = 64
MAX_TEXT: Final = 64
PIXEL_MEAN: Final = (0.485, 0.456, 0.406)
PIXEL_STD: Final = (0.229, 0.224, 0.225)
MIN_SHARE: Final = 0.002
PROPOSALS_A_PRODUCT: Final = 4


def detector_config() -> GroundingDinoConfig:
    """Swin at strides 8, 16 and 32; a two-layer BERT; two encoder and three decoder layers of width 64; 20 queries."""
    make: Any = SwinConfig
    vision = make(
        image_size=DETECTOR_PX,
        embed_dim=32,
        depths=[1, 2, 2, 1],
        num_heads=[2, 4, 4, 8],
        window_size=4,
        drop_path_rate=0.0,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = BertConfig(
        vocab_size=max(DETECTOR_IDS.values()) + 1,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=MAX_TEXT,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return GroundingDinoConfig(
        backbone_config=vision,
        text_config=text,
        num_queries=20,
        d_model=WIDTH,
        encoder_layers=2,
        encoder_ffn_dim=3 * WIDTH,
        encoder_attention_heads=4,
        decoder_layers=3,
        decoder_ffn_dim=3 * WIDTH,
        decoder_attention_heads=4,
        dropout=0.0,
        fusion_droppath=0.0,
        num_feature_levels=3,
        max_text_len=MAX_TEXT,
        disable_custom_kernels=True,
    )


class DetectorLearner:
    """Find what one to eight phrases name, present or not."""

    learning_rate = 5e-4
    weight_decay = 1e-4
    schedule = "cosine"
    ema_decay = 0.998
    autocast = False  # a box's offset needs more than bf16's eight bits

    def __init__(self, examples: Examples, batch: int = 16) -> None:
        self.examples = examples
        self.batch = batch
        self.tokenizer = detector_tokenizer()
        self.detector: Any = GroundingDinoForObjectDetection(detector_config())
        self.models = nn.ModuleDict({"detector": self.detector}).to(device())

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """`set_loss` over all decoder layers, and over the encoder's proposals."""
        rows = rng.integers(len(self.examples.of_scene), size=self.batch)
        pictures, prompts, targets = zip(*(self._example(row, rng) for row in rows), strict=True)
        inputs = as_tensor(np.stack(pictures) * rng.uniform(0.88, 1.08, (self.batch, 1, 1, 1)), PIXEL_MEAN, PIXEL_STD)
        ids, attention = self._padded(prompts)
        layers, proposals = every_layer(self.detector, inputs, ids, attention)
        text_mask = torch.zeros(self.batch, MAX_TEXT, dtype=torch.bool, device=ids.device)
        text_mask[:, : ids.shape[1]] = attention.bool()
        total = set_loss(*proposals, targets, text_mask, PROPOSALS_A_PRODUCT)
        for logits, boxes in layers:
            total = total + set_loss(logits, boxes, targets, text_mask)
        return total

    def _example(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int], Targets]:
        picture = self.examples.arrays["small_scenes"][row]
        objects = [self.examples.objects[number] for number in self.examples.of_scene[row]]
        if rng.random() < 0.5:
            width = self.examples.widths[row]
            columns = max(1, round(width * DETECTOR_PX))
            picture = np.concatenate([picture[:, columns - 1 :: -1], picture[:, columns:]], 1)
            objects = [mirrored(one, width) for one in objects]
        return picture, *self._prompt(objects, rng)

    def _prompt(self, objects: list[Example], rng: np.random.Generator) -> tuple[list[int], Targets]:
        """Phrases as token ids, and for each product that one of them names, its box and the tokens to fire."""
        ids, named = [DETECTOR_IDS["[CLS]"]], np.zeros((len(objects), MAX_TEXT), np.float32)
        for phrase, meant in _phrases(objects, rng):
            words = phrase.split()
            content = [len(ids) + at for at, word in enumerate(words) if word not in FUNCTION_WORDS]
            named[np.ix_(meant, content)] = 1
            ids += [DETECTOR_IDS[word] for word in words] + [DETECTOR_IDS["."]]
        some = named.any(1)
        boxes = np.array([one.box_xyxy for one in objects], np.float32).reshape(-1, 4)
        centred = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        return [*ids, DETECTOR_IDS["[SEP]"]], Targets(
            torch.from_numpy(named[some]).to(device()), torch.from_numpy(centred[some]).to(device())
        )

    def _padded(self, prompts: tuple[list[int], ...]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, prompts))
        ids = torch.tensor([one + [0] * (longest - len(one)) for one in prompts], device=device())
        attention = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in prompts], device=device())
        return ids, attention


def mirrored(one: Example, width: float) -> Example:
    """A product of a scene that fills this much of its square from the left, seen in a mirror."""
    left, top, right, bottom = one.box_xyxy
    return replace(one, box_xyxy=(width - right, top, width - left, bottom))


def _phrases(objects: list[Example], rng: np.random.Generator) -> list[tuple[str, list[int]]]:
    """One to eight phrases, each with the products that it is true of: one is as in use, many teach faster.

    A product too small to ask for is neither named nor denied.
    """
    too_small = {one.category for one in objects if one.share < MIN_SHARE}
    here = [number for number, one in enumerate(objects) if one.category not in too_small]
    away = [name for name in CATEGORIES if name not in {one.category for one in objects}]
    placed = [pair for pair in relations(objects) if pair[1] in here]
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 9))
    phrases: dict[str, list[int]] = {}
    for _ in range(count):
        kind = rng.random()
        if placed and kind < 0.3:
            phrase, meant = placed[rng.integers(len(placed))]
            phrases[phrase] = [meant]
        elif here and kind < 0.6:
            one = objects[here[rng.integers(len(here))]]
            colour = one.colour if rng.random() < 0.8 else str(rng.choice(list(COLOURS)))
            phrase = detector_phrase(one.category, colour, one.pattern, rng)
            phrases[phrase] = _true_of(phrase, objects)
        else:
            phrases[detector_phrase(str(rng.choice(away)), str(rng.choice(list(COLOURS))), "plain", rng)] = []
    return list(phrases.items())


def _true_of(phrase: str, objects: list[Example]) -> list[int]:
    words = set(phrase.split()) - FUNCTION_WORDS
    return [number for number, one in enumerate(objects) if words <= {one.category, one.colour, one.pattern}]


def every_layer(
    model: Any, pictures: Tensor, ids: Tensor, attention: Tensor
) -> tuple[list[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Logits (B, Q, MAX_TEXT) and boxes (B, Q, 4; centre and size) of each decoder layer, and those of the encoder."""
    out = model.model(pixel_values=pictures, input_ids=ids, attention_mask=attention, return_dict=True)
    text, layers = out.encoder_last_hidden_state_text, []
    for level in range(out.intermediate_hidden_states.shape[1]):
        reference = out.init_reference_points if level == 0 else out.intermediate_reference_points[:, level - 1]
        hidden = out.intermediate_hidden_states[:, level]
        logits = model.class_embed[level](
            vision_hidden_state=hidden, text_hidden_state=text, text_token_mask=attention.bool()
        )
        layers.append((logits, (model.bbox_embed[level](hidden) + torch.special.logit(reference, eps=1e-5)).sigmoid()))
    return layers, (out.enc_outputs_class, out.enc_outputs_coord_logits.sigmoid())


def export_detector(examples: Examples, folder: Path, out_dir: Path) -> None:
    """Write a folder that `GroundingDinoForObjectDetection` and `GroundingDinoProcessor` load."""
    learner = DetectorLearner(examples)
    load_ema(folder, learner.models)
    learner.detector.half().save_pretrained(out_dir)
    image_processor = GroundingDinoImageProcessor(
        do_resize=False,
        do_pad=False,
        size={"height": DETECTOR_PX, "width": DETECTOR_PX},
        image_mean=PIXEL_MEAN,
        image_std=PIXEL_STD,
    )
    make: Any = GroundingDinoProcessor
    make(image_processor, detector_tokenizer()).save_pretrained(out_dir)
