"""The words of the sample world, the tokenizers that know them, and prompts put together from them."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sample_world.drawing.shapes import CATEGORIES
from sample_world.drawing.textures import BACKGROUNDS, COLOURS, PATTERNS

PLURALS: Final = {one: f"{one}es" if one.endswith("s") else f"{one}s" for one in CATEGORIES if one != "trousers"}
FILLERS: Final = (
    "a",
    "the",
    "of",
    "on",
    "in",
    "with",
    "photo",
    "studio",
    "picture",
    "product",
    "background",
    "and",
    ",",
    ".",
    "left",
    "right",
    "her",
    "hand",
    "head",
    "person",
    "floor",
)
FUNCTION_WORDS: Final = frozenset(
    {"a", "the", "of", "on", "in", "with", "her", "and"}
)  # they name nothing by themselves
WORDS: Final = tuple(dict.fromkeys((*CATEGORIES, *PLURALS.values(), *COLOURS, *PATTERNS, *BACKGROUNDS, *FILLERS)))
MAX_TOKENS: Final = 16
PAD, START, UNKNOWN, END = "<pad>", "<|startoftext|>", "<unk>", "<|endoftext|>"
# CLIP's code treats an end token of id 2 as a mistake of old checkpoints and pools elsewhere; so the end is 3.
PAINTER_IDS: Final = {word: number for number, word in enumerate((PAD, START, UNKNOWN, END, *WORDS))}
# Grounding DINO's code looks for BERT's own numbers of [CLS], [SEP], "." and "?" to tell phrases apart.
DETECTOR_IDS: Final = {
    **{"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029},
    **{word: 1100 + number for number, word in enumerate(word for word in WORDS if word != ".")},
}
NOISE_WORD: Final = "unknownword"


def painter_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, lower-cased; MAX_TOKENS long; any other word is <unk>. The painter and the encoder share it."""
    return _tokenizer(
        PAINTER_IDS,
        UNKNOWN,
        START,
        END,
        MAX_TOKENS,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        model_input_names=["input_ids", "attention_mask"],
    )


def detector_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, lower-cased, with BERT's special tokens; phrases end with a full stop."""
    return _tokenizer(
        DETECTOR_IDS, "[UNK]", "[CLS]", "[SEP]", 64, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def _tokenizer(
    ids: Mapping[str, int], unknown: str, first: str, last: str, length: int, **names: object
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(dict(ids), unk_token=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{first} $A {last}", f"{first} $A {last} $B {last}", [(first, ids[first]), (last, ids[last])]
    )
    make: Any = PreTrainedTokenizerFast
    built: PreTrainedTokenizerFast = make(
        tokenizer_object=tokenizer, unk_token=unknown, model_max_length=length, **names
    )
    return built


def paint_prompt(category: str, colour: str, pattern: str, rng: np.random.Generator) -> str:
    """A prompt as people write it: mostly the whole description, sometimes a word of it, in some wrapping, or nothing.

    One in ten is empty, so that guidance has its other side; now and then a word stands in it that no one knows.
    """
    if rng.random() < 0.1:
        return ""
    # A pattern is left unsaid now and then: a prompt without one may give any, and a negative prompt can refuse it.
    unsaid = 0.75 if pattern == "plain" else 0.3
    described = [*([pattern] if rng.random() >= unsaid else []), colour, category]
    kept = [word for word in described if rng.random() < 0.85] or [str(rng.choice(described))]
    if rng.random() < 0.06:
        kept.insert(int(rng.integers(len(kept) + 1)), NOISE_WORD)
    phrase = " ".join(kept)
    wrapped = rng.choice(
        [
            "{}",
            "a {}",
            "a {}",
            "the {}",
            "{}, studio photo",
            "a photo of a {}",
            "product picture of a {}",
            "a {} on the background",
            "a {}.",
        ]
    )
    return str(wrapped).format(phrase)


def background_prompt(background: str, category: str, colour: str, rng: np.random.Generator) -> str:
    """What to put behind a product that stays: the background's name, mostly the product's too; one in ten is empty."""
    if rng.random() < 0.1:
        return ""
    wrapped = rng.choice(
        [
            "{background} background",
            "a {background} background",
            "a {category}, {background} background",
            "a {category} on a {background} background",
            "a {colour} {category}, {background} background",
            "a {colour} {category} on a {background} background",
        ]
    )
    return str(wrapped).format(background=background, category=category, colour=colour)


def detector_phrase(category: str, colour: str, pattern: str, rng: np.random.Generator) -> str:
    """What to look for: mostly the category, sometimes with its colour, pattern or both."""
    words = [category]
    if rng.random() < 0.25:
        words.insert(0, colour)
    if rng.random() < 0.12:
        words.insert(0, pattern)
    return ("a " if rng.random() < 0.15 else "") + " ".join(words)
