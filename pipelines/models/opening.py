"""Open a library's network so that nothing in it is made up: what a file does not fill is refused.

transformers and diffusers fill weights that are missing with random numbers, and a tokenizer without its files with
none but the special tokens; both only log it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipelines.errors import InfrastructureError
from pipelines.models import Call
from pipelines.models.files import Names, weight_files


def open_network(kind: Any, folder: Path, names: Names, call: Call, **options: Any) -> Any:
    """A network of a transformers or diffusers class from its folder, at the precision of the call, on the CPU.

    For a call on torch's meta device it stands there: names and shapes alone, from the files' headers.

    Raises:
        InfrastructureError: there are no weights, or some are missing, or of another shape than the config says.
    """
    found = weight_files(folder, names)
    if call.device == "meta":
        stored = torch.float16 if found.variant == "fp16" else torch.float32  # another would convert every weight
        options = {**options, "dtype": stored, "device_map": "meta"}
    else:
        options = {**options, "dtype": getattr(torch, call.dtype)}
    network, loaded = kind.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=not found.is_pickle,  # else a pickle, which both read with `weights_only`
        variant=found.variant,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # else the first one stops it, with advice to ignore it
        **options,
    )
    _refuse_gaps(loaded, folder)
    return network


def made_ready(network: Any, call: Call) -> Any:
    """The network on the device of its calls, in evaluation mode, without gradients."""
    return network.to(call.device).eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer as it was saved.

    `AutoTokenizer` goes by the model's type, and would read a word-level `tokenizer.json` as BERT's.
    """
    kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    return kind.from_pretrained(folder, local_files_only=True)


def check_tokenizer(tokenizer: Any, vocabulary: int, folder: Path) -> None:
    """Let a tokenizer number just the tokens that its model embeds.

    Raises:
        InfrastructureError: it has other numbers, as one has whose files are missing.
    """
    numbered = max(tokenizer.get_vocab().values(), default=-1) + 1
    if numbered != vocabulary:
        raise InfrastructureError(
            f"the tokenizer in {folder} numbers {numbered} tokens and its model {vocabulary}; its files "
            "(tokenizer.json, or vocab.json and merges.txt, or vocab.txt) are missing or another model's; "
            "fetch them again"
        )


def _refuse_gaps(loaded: Mapping[str, Iterable[Any]], folder: Path) -> None:
    missing = sorted(loaded["missing_keys"])
    misshapen = sorted(f"{name} ({_by(found)}, not {_by(wanted)})" for name, found, wanted in loaded["mismatched_keys"])
    broken = list(loaded["error_msgs"])
    if missing or misshapen or broken:
        raise InfrastructureError(
            f"the weights in {folder} do not fill the network of its config: {len(missing)} are missing"
            f"{_first(missing)}, {len(misshapen)} have another shape{_first(misshapen)}{_first(broken)}; fetch the "
            "folder again, or take the config that was published with these weights"
        )


def _first(some: list[str], most: int = 3) -> str:
    shown = ", ".join([*some[:most], *(["..."] if len(some) > most else [])])
    return f": {shown}" if some else ""


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"
