"""Do the adapters' tests notice a wrong input or output? Each mutant is one slip that a person could make.

`make mutants` changes one place at a time in a copy of the package and runs that adapter's tests there: they must fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("pipelines", "tests", "serve", "jobs", "pyproject.toml")
DINO, DINO_PTH, CLIP, SAM, PAINTER, CALLS = (
    f"pipelines/models/{name}.py"
    for name in ("grounding_dino", "groundingdino_py", "clip", "sam", "inpainting", "calls")
)


@dataclass(frozen=True)
class Mutant:
    """A slip: in `file`, `old` becomes `new`; the tests in `killed_by` must fail."""

    name: str
    file: str
    old: str
    new: str
    killed_by: str


def _of(adapter: str, *slips: tuple[str, str, str], file: str | None = None) -> list[Mutant]:
    """Slips in an adapter's file, or in another one that it calls; the adapter's own tests must notice them."""
    stem = Path(adapter).stem
    tests = f"tests/models/test_{stem}.py"
    return [Mutant(f"{stem}: {name}", file or adapter, old, new, tests) for name, old, new in slips]


STACKED = "torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float() / 255"
MEAN, STD = "torch.tensor(mean, device", "torch.tensor(std, device"
HALF = "(0.5, 0.5, 0.5)"
BLUE_FIRST = "[..., ::-1].copy()"
LEVELS = "return (picture * 255).round().astype(np.uint8) if"
PIXELS = "rgb.astype(np.float32) / 127.5 - 1"
PROMPTS, NEGATIVES = "torch.cat([encoded[one.prompt] for one in batch])", "torch.cat(negative)"
SAM_PIXELS = "torch.from_numpy(one).permute(2, 0, 1).to(self.call.device)"

NORMALISING = (
    ("blue comes first", STACKED, STACKED.replace("np.stack(pictures)", f"np.stack(pictures){BLUE_FIRST}")),
    ("mean is a half", MEAN, MEAN.replace("mean", HALF)),
    ("deviation is a half", STD, STD.replace("std", HALF)),
    ("pixels are 0 to 255", STACKED, STACKED.removesuffix(" / 255")),
)

MUTANTS: tuple[Mutant, ...] = (
    *_of(DINO, *NORMALISING, file=CALLS),
    *_of(CLIP, *NORMALISING, file=CALLS),
    *_of(
        DINO,
        (
            "padding is attended to",
            'tokens["input_ids"].to(device), tokens["attention_mask"].to(device)',
            'tokens["input_ids"].to(device), torch.ones_like(tokens["attention_mask"]).to(device)',
        ),
        ("no full stop ends a caption", 'return " ".join(f"{phrase} ." for', 'return " . ".join(f"{phrase}" for'),
        ("corners are taken for centres", "[centre - half, centre + half]", "[centre, centre + 2 * half]"),
        (
            "the letterbox's scale is left out",
            "(self.side_px / scale, self.side_px / scale)",
            "(self.side_px, self.side_px)",
        ),
        ("scores by softmax", "logits.float().sigmoid()", "logits.float().softmax(-1)"),
    ),
    *_of(
        DINO_PTH,
        ("mean is a half", "(0.485, 0.456, 0.406), (0", f"{HALF}, (0"),
        ("deviation is a half", ", (0.229, 0.224, 0.225)", f", {HALF}"),
        ("missing weights are accepted", "if missing or strange:", "if strange:"),
    ),
    *_of(
        CLIP,
        ("resized to the nearest pixel", "Image.Resampling.BICUBIC", "Image.Resampling.NEAREST"),
    ),
    *_of(
        SAM,
        ("blue comes first", SAM_PIXELS, SAM_PIXELS.replace("(one)", f"(one{BLUE_FIRST})")),
        ("pixels are 0 to 1", SAM_PIXELS, SAM_PIXELS.replace("permute(2, 0, 1)", "permute(2, 0, 1).float().div(255)")),
        ("masks are inverted", "> self.sam.mask_threshold", "<= self.sam.mask_threshold"),
        ("boxes are not scaled", "self.resize.apply_boxes(prompt[None], size_hw)", "prompt[None]"),
        ("points are not scaled", "self.resize.apply_coords(prompt[:, :2], size_hw)", "prompt[:, :2]"),
    ),
    *_of(
        PAINTER,
        ("the mask is inverted", "np.stack([one.inpaint_mask", "np.stack([~one.inpaint_mask"),
        (
            "the other part of the picture is hidden",
            "self._latents(np.where(one.inpaint_mask[..., None], np.nan",
            "self._latents(np.where(~one.inpaint_mask[..., None], np.nan",
        ),
        ("latents are not scaled", "return latents * float(vae.config.scaling_factor)", "return latents"),
        ("blue comes first", PIXELS, "rgb[..., ::-1].astype(np.float32) / 127.5 - 1"),
        ("blue comes out first", LEVELS, LEVELS.replace("(picture * 255)", "(picture[..., ::-1] * 255)")),
        ("pixels are 0 to 1", PIXELS, "rgb.astype(np.float32) / 255"),
        (
            "prompts are swapped",
            f"prompt_embeds={PROMPTS},\n            negative_prompt_embeds={NEGATIVES} if",
            f"prompt_embeds={NEGATIVES} if negative else {PROMPTS},\n            negative_prompt_embeds={PROMPTS} if",
        ),
        ("hidden pixels are black", "nan_to_num(0.0)", "nan_to_num(-1.0)"),
        ("guidance is half as much again", "=self.sampling.guidance,", "=self.sampling.guidance * 1.5,"),
        ("one step more", "num_inference_steps=self.sampling.steps,", "num_inference_steps=self.sampling.steps + 1,"),
        ("NaN is painted black", "if np.isfinite(picture).all() else None", "if True else None"),
    ),
)


def main() -> int:
    """Run all mutants, show a table, and answer 1 if one survives or cannot be made."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            _copy(ROOT / name, copy / name)
        started = time.monotonic()
        outcomes = {f"(untouched) {tests}": _untouched(copy, tests) for tests in _tests()}
        if all(outcome == "pass" for outcome in outcomes.values()):
            for mutant in MUTANTS:
                outcomes[mutant.name] = _outcome(copy, mutant)
                print(f"{outcomes[mutant.name]:9} {mutant.name}", flush=True)
    wrong = {name: outcome for name, outcome in outcomes.items() if outcome not in ("pass", "killed")}
    for name, outcome in wrong.items():
        print(f"NOT GOOD: {name}: {outcome}")
    print(f"{len(MUTANTS)} mutants, {len(wrong)} not killed, {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _tests() -> list[str]:
    return sorted({mutant.killed_by for mutant in MUTANTS})


def _untouched(copy: Path, tests: str) -> str:
    code = _run(copy, tests)
    return "pass" if code == 0 else f"fails without a mutant (pytest says {code})"


def _outcome(copy: Path, mutant: Mutant) -> str:
    path = copy / mutant.file
    before = path.read_text(encoding="utf-8")
    if before.count(mutant.old) != 1:
        return f"its old text stands {before.count(mutant.old)} times in {mutant.file}, expected once; mend the entry"
    path.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code = _run(copy, mutant.killed_by)
    finally:
        path.write_text(before, encoding="utf-8")
    return {0: "SURVIVED", 1: "killed"}.get(code, f"no verdict (pytest says {code})")


def _run(copy: Path, tests: str) -> int:
    """pytest's exit code: 0 all passed, 1 some failed; anything else is no verdict."""
    # No bytecode: a mutant and its neighbour may have one size and one second of change.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
