"""Train and export the models that ship with the package.

Every part trains within a budget of minutes, goes on from its own checkpoint, and is exported at each checkpoint, so
that a training that is stopped leaves a usable model. `painter` needs a finished `vae`.
"""

import argparse
import json
import logging
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, GroundingDinoForObjectDetection

import pipelines.embedded
from pipelines.models.loading import make_call
from pipelines.models.sam import load as load_segmenter
from pipelines.strict import Checkpoint
from sample_world.training.detector import DetectorLearner, export_detector
from sample_world.training.encoder import EncoderLearner, export_encoder
from sample_world.training.examples import SCENES_ALONE, Examples, render_examples
from sample_world.training.judge import JudgeLearner, export_judge
from sample_world.training.latents import encode_latents
from sample_world.training.loop import SEED, Learner, begin_with, progress_of
from sample_world.training.loop import train as run
from sample_world.training.painter import PainterLearner, export_painter
from sample_world.training.segmenter import SegmenterLearner, export_segmenter
from sample_world.training.vae import VaeLearner, export_vae

DEFAULT_MINUTES: Final = {
    "vae": 45.0,
    "detector": 60.0,
    "segmenter": 30.0,
    "encoder": 12.0,
    "judge": 6.0,
    "painter": 90.0,
}
LATENT_MINUTES: Final = 15.0
SCENES: Final = 8000
SCENES_TO_DETECT: Final = 30_000
EMBEDDED_DIR: Final = Path(pipelines.embedded.__path__[0])
_log = logging.getLogger(__name__)


def train(
    parts: Sequence[str],
    work_dir: Path,
    minutes: float | None = None,
    out_dir: Path = EMBEDDED_DIR,
    scenes: int = SCENES,
    max_steps: int | None = None,
) -> None:
    """Train parts in turn and export each.

    A training goes on from its checkpoint in the work folder, or else from the weights that ship, as far as they fit.

    Args:
        parts: of `vae`, `detector`, `segmenter`, `encoder`, `judge`, `painter`; or `all`.
        work_dir: keeps the rendered examples, checkpoints and loss curves; training goes on from what is there.
        minutes: the budget of each part, over all its runs; None for its default.
        out_dir: where the weights go.
        scenes: how many scenes to render where none are yet; the detector's set, small pictures alone, has nearly
            four times as many.
        max_steps: stop each part after this step; for tests.

    Raises:
        ValueError: a part is not one of these.
    """
    names = list(DEFAULT_MINUTES) if "all" in parts else list(parts)
    for name in names:
        if name not in DEFAULT_MINUTES:
            raise ValueError(f"there is no part {name!r}; expected `all` or some of {', '.join(DEFAULT_MINUTES)}")
    examples = render_examples(work_dir / "examples", scenes)
    for name in names:
        learner = _LEARNERS[name](examples, work_dir)
        if not (work_dir / name / "checkpoint.pt").exists():
            for module, weights in shipped_weights(name).items():
                begin_with(learner.models[module], weights)

        def on_save(name: str = name) -> None:
            export(name, work_dir, out_dir)

        steps = run(learner, work_dir / name, minutes or DEFAULT_MINUTES[name], max_steps, on_save)
        _log.info("%s: %d steps, written to %s", name, steps, out_dir)


def export(part: str, work_dir: Path, out_dir: Path = EMBEDDED_DIR) -> None:
    """Write a part's averaged weights in fp16 from its checkpoint, and into `training.json` how far and with what
    settings it was trained, and the source's revision at this export.

    The autoencoder goes into the painter's folder.
    """
    examples = Examples(work_dir / "examples")
    out_dir.mkdir(parents=True, exist_ok=True)
    _note(part, work_dir, out_dir / "training.json")
    if part == "vae":
        export_vae(examples, work_dir / "vae", work_dir / "vae" / "export")
        if (out_dir / "painter").exists():
            shutil.copytree(work_dir / "vae" / "export", out_dir / "painter" / "vae", dirs_exist_ok=True)
    elif part == "painter":
        export_painter(work_dir / "vae" / "export", work_dir / "painter", out_dir / "painter")
    elif part == "detector":
        export_detector(examples, work_dir / "detector", out_dir / "detector")
    elif part == "segmenter":
        export_segmenter(work_dir / "segmenter", out_dir / "segmenter")
    elif part == "encoder":
        export_encoder(work_dir / "encoder", out_dir / "encoder")
    elif part == "judge":
        export_judge(work_dir / "judge", out_dir / "judge")


def _note(part: str, work_dir: Path, path: Path) -> None:
    notes = json.loads(path.read_text()) if path.exists() else {}
    settings = {name: value for name, value in vars(_KINDS[part]).items() if isinstance(value, int | float | str)}
    notes[part] = {
        **progress_of(work_dir / part),
        "settings": {name: value for name, value in settings.items() if not name.startswith("__")},
        "seed": SEED,
        "revision": _revision(),
    }
    path.write_text(json.dumps(notes, indent=2, sort_keys=True) + "\n")


def _revision() -> str:
    """The source's git revision; empty where it is no checkout, or there is no git."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _painter(examples: Examples, work_dir: Path) -> Learner:
    load: Any = AutoencoderKL.from_pretrained
    vae = load(work_dir / "vae" / "export", dtype=torch.float32).eval().to(memory_format=torch.channels_last)
    return PainterLearner(examples, encode_latents(examples, vae, work_dir / "latents", LATENT_MINUTES))


def _scenes_to_detect(examples: Examples, work_dir: Path) -> Examples:
    count = round(len(examples.of_scene) * SCENES_TO_DETECT / SCENES)
    return render_examples(work_dir / "scenes", count, names=SCENES_ALONE)


_KINDS: Final[dict[str, type[Learner]]] = {
    "vae": VaeLearner,
    "detector": DetectorLearner,
    "segmenter": SegmenterLearner,
    "encoder": EncoderLearner,
    "judge": JudgeLearner,
    "painter": PainterLearner,
}
_LEARNERS: Final[dict[str, Callable[[Examples, Path], Learner]]] = {
    "vae": lambda examples, _: VaeLearner(examples),
    "detector": lambda examples, work_dir: DetectorLearner(_scenes_to_detect(examples, work_dir)),
    "segmenter": lambda examples, _: SegmenterLearner(examples),
    "encoder": lambda examples, _: EncoderLearner(examples),
    "judge": lambda examples, _: JudgeLearner(examples),
    "painter": _painter,
}


def shipped_weights(part: str) -> dict[str, Mapping[str, Tensor]]:
    """The weights of a part that ship, for each of its modules; none where it does not ship, and for the judge."""
    folder = EMBEDDED_DIR / ("painter" if part == "vae" else part)
    if not folder.exists():
        return {}
    if part == "segmenter":
        return {part: load_segmenter(folder, make_call("segmenter", Checkpoint(uri=str(folder)), 1, 1)).state_dict()}
    kinds: dict[str, tuple[Any, Path]] = {
        "vae": (AutoencoderKL, folder / "vae"),
        "unet": (UNet2DConditionModel, folder / "unet"),
        "text_encoder": (CLIPTextModel, folder / "text_encoder"),
        "detector": (GroundingDinoForObjectDetection, folder),
        "encoder": (CLIPModel, folder),
    }
    modules = {"painter": ("unet", "text_encoder"), "judge": ()}.get(part, (part,))
    found = {
        name: kind.from_pretrained(at, dtype=torch.float32) for name, (kind, at) in kinds.items() if name in modules
    }
    return {name: module.state_dict() for name, module in found.items()}


def main() -> None:
    """`python -m sample_world.training.embedded PART... --work DIR [--minutes M] [--out DIR] [--export-only]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=[*DEFAULT_MINUTES, "all"])
    parser.add_argument("--work", type=Path, required=True, help="folder of examples, checkpoints and curves")
    parser.add_argument("--minutes", type=float, help="budget of each part; without it, its default")
    parser.add_argument(
        "--out", type=Path, default=EMBEDDED_DIR, help="where the weights go; by default, into the package"
    )
    parser.add_argument("--export-only", action="store_true", help="write the weights of the last checkpoint and stop")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if arguments.export_only:
        for part in arguments.parts:
            export(part, arguments.work, arguments.out)
    else:
        train(arguments.parts, arguments.work, arguments.minutes, arguments.out)


if __name__ == "__main__":
    main()
