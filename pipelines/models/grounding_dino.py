"""Grounding DINO in transformers: boxes of what a prompt names (Liu et al. 2023, arXiv:2303.05499).

Two things would let batch mates into a result, and are kept out here. Pictures of other sizes and longer prompts would
change the padding: so a picture is brought to a shape, and a prompt padded to a length, that depend on nothing but
itself, and a call holds one such shape and length. And the fusion layers subtract the largest attention
weight *of the whole batch* before their softmax: so they see the samples one by one, the rest of the network all
together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForZeroShotObjectDetection

from pipelines.errors import InfrastructureError
from pipelines.models import Call, Found
from pipelines.models.calls import batches, inference, normalised
from pipelines.models.files import TRANSFORMERS, model_type
from pipelines.models.opening import check_tokenizer, load_tokenizer, made_ready, open_network
from pipelines.pixels.crops import letterbox
from pipelines.pixels.images import Rgb

OPENS = "Grounding DINO: a transformers folder of type grounding-dino or mm-grounding-dino"
SHORTEST_PROMPT = 16  # tokens; most prompts fall into this one length, so that few calls are padded


@dataclass(frozen=True)
class GroundingNetwork:
    """A loaded Grounding DINO of either library, and the form of its inputs.

    Trained on pictures fitted into a square of `side_px`; or, where `longest_px` is given, on pictures in their own
    shape, whose shortest side is `side_px` unless the longest would pass `longest_px`.

    `answer` takes pixels (B, 3, H, W), captions, token ids (B, T) and the mask of real tokens (B, T), and gives
    logits (B, Q, at least T) and boxes (B, Q, 4): centre, width and height as fractions of what it was shown.
    """

    model: Any
    tokenizer: Any
    side_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_tokens: int
    answer: Callable[[Tensor, list[str], Tensor, Tensor], tuple[Tensor, Tensor]]
    longest_px: int | None = None


class GroundingDino:
    """A Detector: every box that the network answers, best first, each labelled with the phrase it matches best.

    A prompt holds one phrase or several, separated by full stops; a box's score is the largest over its phrase's words.
    A prompt without a word finds nothing.

    Args:
        network: the loaded network.
        call: how it is called.
        side_px: the square's side, or the shortest side of a picture in its own shape; None: the network's own.
        as_trained: show pictures as the network was trained, which may be in their own shape; else in one square.
    """

    def __init__(
        self, network: GroundingNetwork, call: Call, side_px: int | None = None, as_trained: bool = False
    ) -> None:
        self.network = network
        self.call = call
        self.side_px = side_px or network.side_px
        longest_px = network.longest_px if as_trained else None
        self.longest_px = None if longest_px is None else round(longest_px * self.side_px / network.side_px)

    def __call__(self, images: Sequence[Rgb], prompts: Sequence[str]) -> list[Found]:
        """One answer an image, in order."""
        found = [nothing_found() for _ in images]
        asked = [phrases(prompt) for prompt in prompts]
        kinds = [
            (self._length(caption(some)), self._size_wh(image)) if some else None
            for image, some in zip(images, asked, strict=True)
        ]
        for kind in sorted({one for one in kinds if one}):
            length, numbers = kind[0], [number for number, one in enumerate(kinds) if one == kind]
            for batch, count in batches(numbers, self.call.call_size):
                answers = self._ask([images[number] for number in batch], [asked[number] for number in batch], length)
                for number, answer in zip(batch[:count], answers, strict=False):
                    found[number] = answer
        return found

    def _length(self, text: str) -> int:
        return padded_length(len(self.network.tokenizer(text)["input_ids"]), self.network.max_tokens)

    def _ask(self, images: list[Rgb], asked: list[tuple[str, ...]], length: int) -> list[Found]:
        captions = [caption(some) for some in asked]
        tokens = self.network.tokenizer(
            captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        shown, spans = zip(*(self._shown(image) for image in images), strict=True)
        device = self.call.device
        ids, real = tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
        with inference(self.call):
            pixels = normalised(shown, self.network.mean, self.network.std, device)
            logits, boxes = self.network.answer(pixels, captions, ids, real)
            scores = logits.float().sigmoid()[..., :length].cpu().numpy()
            fractions = boxes.float().cpu().numpy()
        answers = []
        for number, image in enumerate(images):
            of_phrase = phrase_of_token(ids[number].tolist(), self.network.tokenizer)
            boxes_xyxy = _corners(fractions[number], spans[number], image)
            answers.append(_matching(scores[number], boxes_xyxy, of_phrase, asked[number]))
        return answers

    def _size_wh(self, image: Rgb) -> tuple[int, int]:
        if self.longest_px is None:
            return self.side_px, self.side_px
        return own_size_wh((image.shape[1], image.shape[0]), self.side_px, self.longest_px)

    def _shown(self, image: Rgb) -> tuple[Rgb, tuple[float, float]]:
        """What the network sees of a picture, and how far that reaches in the picture's pixels, across and down."""
        if self.longest_px is None:
            square, scale = letterbox(image, self.side_px)
            return square, (self.side_px / scale, self.side_px / scale)
        resized = Image.fromarray(image).resize(self._size_wh(image), Image.Resampling.BILINEAR)
        return np.asarray(resized), (image.shape[1], image.shape[0])


make_detector = GroundingDino


def opens(path: Path) -> bool:
    """Whether a path is a transformers folder of a Grounding DINO."""
    return path.is_dir() and model_type(path) in ("grounding-dino", "mm-grounding-dino")


def load(path: Path, call: Call) -> GroundingNetwork:
    """Load a folder of `GroundingDinoForObjectDetection` or `MMGroundingDinoForObjectDetection`.

    Raises:
        InfrastructureError: weights are missing or misshapen, the tokenizer is not the model's, or the image processor
            names no size.
    """
    model = made_ready(open_network(AutoModelForZeroShotObjectDetection, path, TRANSFORMERS, call), call)
    see_samples_one_by_one(model, model.config.encoder_layers)
    tokenizer = load_tokenizer(path)
    check_tokenizer(tokenizer, model.config.text_config.vocab_size, path)
    pictures = AutoImageProcessor.from_pretrained(path, local_files_only=True)  # type: ignore[no-untyped-call]  # not annotated

    def answer(pixels: Tensor, captions: list[str], ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        outputs = model(pixel_values=pixels, input_ids=ids, attention_mask=real, token_type_ids=torch.zeros_like(ids))
        return outputs.logits, outputs.pred_boxes

    return GroundingNetwork(
        model=model,
        tokenizer=tokenizer,
        side_px=_side_px(dict(pictures.size), path),
        mean=tuple(pictures.image_mean),
        std=tuple(pictures.image_std),
        max_tokens=model.config.max_text_len,
        answer=answer,
        longest_px=_longest_px(dict(pictures.size)),
    )


def see_samples_one_by_one(model: nn.Module, count: int) -> None:
    """Let all fusion layers of a Grounding DINO, of either library, see one sample of the batch at a time.

    Raises:
        InfrastructureError: there are not `count` of them: the library has changed, and batch mates would count.
    """
    fusing = [layer for layer in model.modules() if type(layer).__name__.endswith("BiMultiHeadAttention")]
    if len(fusing) != count:
        raise InfrastructureError(
            f"{type(model).__name__} has {len(fusing)} layers named *BiMultiHeadAttention, expected {count}, in "
            f"transformers {version('transformers')}; without them a batch would change its own results: install the "
            "versions of requirements.lock"
        )
    for layer in fusing:
        layer.forward = _one_by_one(layer.forward)  # of this instance alone


def _one_by_one(forward: Callable[..., Any]) -> Callable[..., Any]:
    def forward_each(*given: Any, **named: Any) -> Any:
        count = next(one for one in (*given, *named.values()) if isinstance(one, Tensor)).shape[0]
        answers = []
        for number in range(count):
            alone = [_sample(one, number) for one in given]
            answers.append(forward(*alone, **{name: _sample(one, number) for name, one in named.items()}))
        return _joined(answers)

    return forward_each


def _sample(given: Any, number: int) -> Any:
    return given[number : number + 1] if isinstance(given, Tensor) else given


def _joined(answers: list[Any]) -> Any:
    if isinstance(answers[0], Tensor):
        return torch.cat(answers)
    return tuple(_joined(list(parts)) for parts in zip(*answers, strict=True))


def phrases(prompt: str) -> tuple[str, ...]:
    """The phrases of a prompt, lower-cased: `Shirt. Red bag` -> shirt, red bag."""
    parts = (" ".join(part.lower().split()) for part in prompt.split("."))
    return tuple(part for part in parts if re.search(r"\w", part))


def caption(some: Sequence[str]) -> str:
    """Phrases in the form that Grounding DINO was trained on: each ends with ` .`, the last one too."""
    return " ".join(f"{phrase} ." for phrase in some)


def padded_length(tokens: int, max_tokens: int) -> int:
    """The length that a prompt of so many tokens is padded, or cut, to: the next power of two, from 16 on."""
    length = SHORTEST_PROMPT
    while length < tokens:
        length *= 2
    return min(length, max_tokens)


def phrase_of_token(ids: Sequence[int], tokenizer: Any) -> NDArray[np.intp]:
    """The number of the phrase that each token belongs to; -1 for full stops, start, end and padding."""
    stop = tokenizer.convert_tokens_to_ids(".")
    framing = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    numbers, current = [], 0
    for one in ids:
        numbers.append(-1 if one == stop or one in framing else current)
        current += one == stop
    return np.array(numbers, np.intp)


def own_size_wh(size_wh: tuple[int, int], shortest_px: int, longest_px: int) -> tuple[int, int]:
    """The size at which a picture (width, height) is shown in its own shape: the shortest side `shortest_px`, unless
    the longest would pass `longest_px`.

    Source: the evaluation transform of Grounding DINO's authors, after DETR's; rounded as transformers rounds it.
    """
    short, long = min(size_wh), max(size_wh)
    capped = long / short * shortest_px > longest_px
    exact = longest_px * short / long if capped else float(shortest_px)
    sides = max(1, round(exact)), max(1, int(exact * long / short))
    return sides if size_wh[0] <= size_wh[1] else (sides[1], sides[0])


def nothing_found() -> Found:
    """The answer for a picture in which nothing matches."""
    return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), ())


def _corners(fractions: NDArray[np.float32], span_wh: tuple[float, float], image: Rgb) -> NDArray[np.float32]:
    """Relative centres and sizes (Q, 4) in what was shown -> corners in pixels of the picture, clipped to it."""
    centre, half = fractions[:, :2], fractions[:, 2:] / 2
    corners = np.concatenate([centre - half, centre + half], 1) * np.array([*span_wh, *span_wh], np.float32)
    height, width = image.shape[:2]
    return np.asarray(np.clip(corners, 0, [width, height, width, height]), np.float32)


def _matching(
    scores: NDArray[np.float32], boxes_xyxy: NDArray[np.float32], of_phrase: NDArray[np.intp], asked: tuple[str, ...]
) -> Found:
    """Of the queries' scores (Q, T) and boxes (Q, 4), those that have an area, best first."""
    by_phrase = np.stack(list(_columns(scores, of_phrase, len(asked))), 1)
    best = by_phrase.max(1)
    has_area = (boxes_xyxy[:, 2] > boxes_xyxy[:, 0]) & (boxes_xyxy[:, 3] > boxes_xyxy[:, 1])
    order = np.argsort(-best, kind="stable")
    order = order[has_area[order]]
    labels = tuple(asked[number] for number in by_phrase[order].argmax(1))
    return Found(boxes_xyxy[order], best[order], labels)


def _columns(scores: NDArray[np.float32], of_phrase: NDArray[np.intp], count: int) -> Iterator[NDArray[np.float32]]:
    for number in range(count):
        words = np.flatnonzero(of_phrase == number)
        # A prompt longer than the model's limit is cut: its last phrases have no token and match nothing.
        yield scores[:, words].max(1) if words.size else np.zeros(len(scores), np.float32)


def _side_px(size: dict[str, int], path: Path) -> int:
    for name in ("height", "shortest_edge", "longest_edge"):
        if size.get(name):
            return int(size[name])
    raise InfrastructureError(f"the image processor of {path} has `size` {size!r}; expected height or shortest_edge")


def _longest_px(size: dict[str, int]) -> int | None:
    """Where the processor keeps a picture's shape, the longest side that it allows; None where it names one shape."""
    return size.get("longest_edge") if size.get("shortest_edge") and not size.get("height") else None
