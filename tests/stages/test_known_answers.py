"""What every stage makes of fixed, made inputs is what it made when its `pixels_version` was last raised.

A change of pixels that is in no node key would leave old and new pictures side by side in one catalogue. So the file
beside this one holds, for each case, the stage's `pixels_version` and the sha256 of each column: pictures as decoded
pixels, masks as run lengths, floats to three digits. A column that comes out of logarithms, BLAS, numba or another
program's encoder, which CPUs and versions round differently, is `soft`: of its pictures every 7th value is kept (of
long ones every 53rd) and 1 of 500 may differ, floats may differ by 0.0015. Left out are the hashes of encoded files.

`python -m tests.stages.test_known_answers` writes the file anew, and refuses where an answer changed and the number of
its stage did not.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.pixels.masks import from_rle
from tests.stages.known_cases import CASES, Case
from tests.stages.made_inputs import grain, to_levels

FILE = Path(__file__).with_suffix(".json")
STEP, LONG_STEP, LONG = 7, 53, 30_000
MOST_OFF = 1 / 500
LEFT_OUT = ("source_sha256", "image_sha256s", "outside_sha256s")
SIGNATURES = b"\x89PNG", b"\xff\xd8\xff", b"RIFF"


def kept(case: Case) -> dict[str, Any]:
    """A case's answer: each column's sha256, or, of a soft one, values that can be compared."""
    answers = case.answers()
    names = dict.fromkeys(name for answer in answers for name in answer if name not in LEFT_OUT)
    forms = {name: form([answer.get(name) for answer in answers], name in case.soft) for name in names}
    return {
        "pixels_version": case.stage.pixels_version,
        "columns": {name: one if name in case.soft else digest(json.dumps(one)) for name, one in forms.items()},
    }


def form(value: Any, soft: bool) -> Any:
    """A value without what another version of an encoder, or another CPU, may write in another way."""
    if isinstance(value, bytes):
        return levels(shown(value)) if soft else digest(f"{shown(value).shape} {shown(value).tobytes().hex()}")
    if isinstance(value, Mapping):
        if "counts" in value:
            return levels(from_rle(value).astype(np.uint8)) if soft else [list(value["size"]), value["counts"]]
        return {name: form(one, soft) for name, one in value.items()}
    if isinstance(value, list | tuple):
        if soft and value and all(isinstance(one, bytes) for one in value):
            return levels(np.concatenate([shown(one).ravel() for one in value]))
        return [form(one, soft) for one in value]
    if isinstance(value, float | np.floating):
        return str(value) if math.isnan(value) else round(float(value), 3)
    return value


def shown(data: bytes) -> NDArray[np.uint8]:
    """A picture's channels, (H, W) or (H, W, C), or a raw crop's levels, (N,)."""
    if not data.startswith(SIGNATURES):
        return np.frombuffer(data, np.uint8)
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image)


def levels(array: NDArray[np.uint8]) -> str:
    """Every 7th value of an array (every 53rd of a long one) behind its shape, as text; `values` gives them back."""
    thinned = zlib.compress(array.ravel()[:: STEP if array.size < LONG else LONG_STEP].tobytes(), 9)
    return f"levels {'x'.join(map(str, array.shape))} {base64.b85encode(thinned).decode('ascii')}"


def values(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(base64.b85decode(text.split()[2])), np.uint8)


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def agree(old: Any, new: Any) -> bool:
    """Whether two answers are one, as closely as their case is compared."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(agree(old[name], new[name]) for name in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(agree, old, new))
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) < 0.0015
    if all(isinstance(one, str) and one.startswith("levels ") for one in (old, new)):
        same_shape = old.split()[1] == new.split()[1]
        return same_shape and bool((values(old) != values(new)).mean() <= MOST_OFF)
    return bool(old == new)


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The columns in which two answers of a case differ."""
    before, now = old["columns"], new["columns"]
    return [name for name in sorted({*before, *now}) if not agree(before.get(name), now.get(name))]


def rewritten(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What the file is to hold: new answers, and old ones where they agree, so that soft values do not wander.

    Raises:
        ValueError: an answer changed, and the `pixels_version` of its stage did not.
    """
    for name, answer in new.items():
        if name in old and changed(old[name], answer) and answer["pixels_version"] <= old[name]["pixels_version"]:
            raise ValueError(told(name, changed(old[name], answer)))
    return {
        name: {**answer, "columns": old[name]["columns"]} if name in old and not changed(old[name], answer) else answer
        for name, answer in new.items()
    }


def told(name: str, columns: Sequence[str]) -> str:
    return (
        f"the output of `{name.partition(':')[0]}` changed ({name}: {', '.join(columns)}): raise its pixels_version, "
        "so that what was rendered is made anew, and rewrite the file by `python -m tests.stages.test_known_answers`, "
        "or undo the change"
    )


# --- tests


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return answers


def test_the_file_holds_every_case_and_no_other(file):
    assert list(file) == list(CASES), "rewrite the file by `python -m tests.stages.test_known_answers`"


@pytest.mark.parametrize("name", CASES)
def test_a_stage_makes_what_it_made(name, file):
    answer = kept(CASES[name])

    assert not changed(file[name], answer), told(name, changed(file[name], answer))
    assert answer["pixels_version"] == file[name]["pixels_version"], (
        f"the pixels_version of `{name.partition(':')[0]}` changed and its output did not: set it back, or rewrite the "
        "file by `python -m tests.stages.test_known_answers`"
    )


def test_a_changed_answer_is_written_only_where_its_number_was_raised():
    def of(version: int, column: str) -> dict[str, Any]:
        return {"mask: one": {"pixels_version": version, "columns": {"base_bytes": column}}}

    assert rewritten(of(3, "old"), of(4, "new")) == of(4, "new")
    with pytest.raises(ValueError, match=r"the output of `mask` changed \(mask: one: base_bytes\): raise its pixels"):
        rewritten(of(3, "old"), of(3, "new"))


def test_a_soft_answer_may_differ_in_one_value_of_five_hundred():
    picture = to_levels(grain(70, 70, 256, 9))
    few, many = picture.copy(), picture.copy()
    few.ravel()[:: STEP * 700] ^= 1
    many.ravel()[:: STEP * 300] ^= 1

    assert agree(levels(picture), levels(few))
    assert not agree(levels(picture), levels(many))
    assert not agree(levels(picture), levels(picture[:60]))


if __name__ == "__main__":
    old = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    try:
        answers = rewritten(old, {name: kept(case) for name, case in CASES.items()})
    except ValueError as error:
        sys.exit(str(error))
    lines = (f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
