"""Grounding DINO in the groundingdino-py package, from the official `.pth` and config `.py`.

The package was written for transformers 4: its wrapper of BERT asks for methods that version 5 no longer has. BERT
itself takes all that the wrapper took, so it stands in the wrapper's place. The package's own attention over sampled
points is plain torch, on GPUs too.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from groundingdino.models import build_model
from groundingdino.models.GroundingDINO import groundingdino as library
from torch import Tensor
from transformers import BertConfig, BertModel

from pipelines.errors import InfrastructureError
from pipelines.models import Call, groundingdino_config
from pipelines.models.grounding_dino import GroundingDino, GroundingNetwork, padded_length, see_samples_one_by_one
from pipelines.models.groundingdino_config import config_beside, read_config, text_encoder_beside
from pipelines.models.opening import check_tokenizer, load_tokenizer, made_ready

OPENS = "an official groundingdino_*.pth with its config .py beside it"
opens = groundingdino_config.opens
make_detector = GroundingDino
SIDE_PX, LONGEST_PX = 800, 1333  # the shortest and longest side in the official demo and evaluation
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEFT_OVERS = ("bert.embeddings.position_ids", "label_enc.")  # in official files, for training or older versions


class Bert(BertModel):  # type: ignore[no-untyped-call]  # not annotated
    """transformers' BERT, taking the (B, T, T) masks with which the package separates phrases."""

    def forward(self, *, attention_mask: Tensor, **given: Any) -> Any:
        """Masks get an axis for the heads."""
        masks = attention_mask[:, None] if attention_mask.ndim == 3 else attention_mask
        return super().forward(attention_mask=masks, **given)


class FixedLength:
    """A tokenizer that pads to a length of the caption's own, in the place of the longest of the batch."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, captions: list[str], padding: str, return_tensors: str) -> Any:
        """Encode captions; those of one call share their padded length."""
        longest = max(len(one) for one in self.tokenizer(captions)["input_ids"])
        length = padded_length(longest, self.max_tokens)
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=length, truncation=True, return_tensors=return_tensors
        )
        tokens.setdefault("token_type_ids", torch.zeros_like(tokens["input_ids"]))
        return tokens

    def convert_tokens_to_ids(self, tokens: list[str]) -> Any:
        """As the tokenizer does."""
        return self.tokenizer.convert_tokens_to_ids(tokens)


def load(path: Path, call: Call, side_px: int = SIDE_PX) -> GroundingNetwork:
    """Load an official `.pth` whose config `.py` and text encoder's folder lie beside it.

    Raises:
        ConfigError: the config is more than plain values.
        InfrastructureError: the config or the text encoder's folder is missing, its tokenizer is another model's, or
            the weights are.
    """
    model, tokenizer = build(path)
    if call.device == "meta":
        model.to("meta")  # only now: while it builds, the package asks tensors for their values
    _put_weights(model, path, call)
    model = made_ready(model, call)
    see_samples_one_by_one(model, len(model.transformer.encoder.fusion_layers))
    for layer in model.transformer.encoder.text_layers:
        layer.register_forward_pre_hook(_masks_by_sample, with_kwargs=True)

    def answer(pixels: Tensor, captions: list[str], ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        outputs = model(pixels, captions=captions)
        return outputs["pred_logits"], outputs["pred_boxes"]

    longest_px = round(LONGEST_PX * side_px / SIDE_PX)
    return GroundingNetwork(model, tokenizer.tokenizer, side_px, MEAN, STD, tokenizer.max_tokens, answer, longest_px)


def build(path: Path) -> tuple[Any, FixedLength]:
    """The package's model for the config beside a `.pth`, with random weights, and its tokenizer.

    Raises:
        ConfigError, InfrastructureError: as `load`; the `.pth` itself is not opened.
    """
    config = read_config(config_beside(path))
    text_dir = text_encoder_beside(path, config)
    bert = BertConfig.from_pretrained(text_dir)
    tokenizer = FixedLength(load_tokenizer(text_dir), config["max_text_len"])
    check_tokenizer(tokenizer.tokenizer, bert.vocab_size, text_dir)
    library.BertModelWarper = lambda bert_model: bert_model
    library.get_tokenlizer.get_tokenlizer = lambda folder: tokenizer
    # The checkpoint brings BERT's weights along: the folder need only hold its config and tokenizer.
    library.get_tokenlizer.get_pretrained_language_model = lambda folder: Bert(bert)
    still = {"use_checkpoint": False, "use_transformer_ckpt": False}  # both trade time for memory in training
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints
        model = build_model(SimpleNamespace(**{**config, **still, "text_encoder_type": str(text_dir)}))
    return model, tokenizer


def _masks_by_sample(
    layer: Any, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Repeat each sample's text mask once a head, in the order that attention wants.

    The package repeats the whole batch once a head instead, so that samples attend by one another's masks as soon as
    the captions of a batch differ.
    """
    return given, {**named, "src_mask": named["src_mask"].repeat_interleave(layer.nhead, dim=0)}


def _put_weights(model: torch.nn.Module, path: Path, call: Call) -> None:
    saved = torch.load(path, map_location="meta" if call.device == "meta" else "cpu", weights_only=True)
    weights = {name.removeprefix("module."): one for name, one in saved.get("model", saved).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    strange = [name for name in unexpected if not name.startswith(LEFT_OVERS)]
    if missing or strange:
        raise InfrastructureError(
            f"{path} does not fit its config: {len(missing)} weights are missing {missing[:3]}, {len(strange)} belong "
            f"to no part of the model {strange[:3]}; take the config that was published with the checkpoint"
        )
