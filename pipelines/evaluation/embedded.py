"""Measure the embedded models on scenes that no training has seen: `python -m pipelines.evaluation.embedded [DIR]`."""

import argparse
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import binary_erosion
from segment_anything import SamPredictor
from skimage.color import rgb2lab
from transformers import AutoTokenizer, CLIPModel, GroundingDinoForObjectDetection, GroundingDinoProcessor

from pipelines.evaluation.figures import Figure, average, share
from pipelines.models.sam import build_sam
from pipelines.pixels.crops import context_region, cut, cut_mask, letterbox, neutral_crop
from pipelines.sample.scenes import HELD_OUT_SEED, Scene, SceneObject, scene
from pipelines.sample.shapes import CATEGORIES
from pipelines.sample.textures import COLOURS, PATTERNS
from pipelines.training.encoder import as_pixels
from pipelines.training.examples import example_size
from pipelines.training.latents import grown

MIN_SCORE: Final = 0.2
MIN_SHARE: Final = 0.008
DETECTOR_PX: Final = 128
PAINTER_PX: Final = 256
ENCODER_PX: Final = 128
STEPS: Final = 12
GUIDANCE: Final = 3.0
GROW_PX: Final = 4
PAINT_BATCH: Final = 4
_log = logging.getLogger(__name__)

Boxes = list[tuple[float, tuple[float, ...]]]


@dataclass(frozen=True)
class Case:
    """A product to find, cut out, name and repaint: the only one of its category in its scene."""

    scene: Scene
    thing: SceneObject
    absent: str


def cases(scenes: int, first_seed: int) -> list[Case]:
    """Every product that covers 0.8 % of its scene and is alone of its kind, with a category that is not there."""
    found = []
    for seed in range(first_seed, first_seed + scenes):
        drawn = scene(seed, example_size(seed))
        names = [thing.category for thing in drawn.objects]
        away = [name for name in CATEGORIES if name not in names]
        for number, thing in enumerate(drawn.objects):
            if names.count(thing.category) == 1 and thing.mask.mean() >= MIN_SHARE:
                found.append(Case(drawn, thing, away[(seed + number) % len(away)]))
    return found


@torch.inference_mode()
def evaluate(embedded_dir: Path, scenes: int = 100, first_seed: int = HELD_OUT_SEED) -> dict[str, Figure]:
    """Measure every model in `embedded_dir`; a part whose folder is missing is left out.

    Returns:
        Figures by name, each with its number of cases and 95 % interval. Detection counts IoU >= 0.5 at a score of
        0.2, one box a phrase. Segmentation starts from the detected box. The colour that a repaint shows is the
        nearest of the ten to the mask's median in CIELAB; what that judge sees in the true pictures is beside it.
    """
    asked = cases(scenes, first_seed)
    figures: dict[str, Figure] = {}
    if (embedded_dir / "detector").exists():
        boxes = _detect(embedded_dir / "detector", asked, figures)
        if (embedded_dir / "segmenter").exists():
            _segment(embedded_dir / "segmenter", asked, boxes, figures)
    if (embedded_dir / "encoder").exists():
        _name(embedded_dir / "encoder", asked, figures)
    if (embedded_dir / "painter").exists():
        _paint(embedded_dir / "painter", asked[:scenes], figures)
    return figures


def _detect(folder: Path, asked: list[Case], figures: dict[str, Figure]) -> list[Boxes]:
    load: Any = GroundingDinoForObjectDetection.from_pretrained
    model = load(folder, dtype=torch.float32).eval()
    processor = GroundingDinoProcessor.from_pretrained(folder)

    def found(drawn: Scene, phrase: str) -> Boxes:
        square, scale = letterbox(drawn.rgb, DETECTOR_PX)
        inputs = processor(images=[square], text=[[phrase]], return_tensors="pt")
        out = processor.post_process_grounded_object_detection(
            model(**inputs), threshold=MIN_SCORE, target_sizes=[square.shape[:2]]
        )[0]
        boxes = [tuple(float(side) / scale for side in box) for box in out["boxes"]]
        return sorted(zip(out["scores"].tolist(), boxes, strict=True), reverse=True)

    answers = [found(case.scene, case.thing.category) for case in asked]
    ious = [
        box_iou(boxes[0][1], case.thing.box_xyxy) if boxes else 0.0 for boxes, case in zip(answers, asked, strict=True)
    ]
    figures["detection recall"] = share([iou >= 0.5 for iou in ious])
    figures["detection mean IoU where found"] = average([iou for iou in ious if iou >= 0.5])
    figures["products answered with more than one box"] = share([len(boxes) > 1 for boxes in answers])
    figures["absent products answered"] = share([bool(found(case.scene, case.absent)) for case in asked])
    described = [found(case.scene, f"{case.thing.colour} {case.thing.category}") for case in asked]
    figures["detection recall, colour named too"] = share(
        [
            bool(boxes) and box_iou(boxes[0][1], case.thing.box_xyxy) >= 0.5
            for boxes, case in zip(described, asked, strict=True)
        ]
    )
    return answers


def _segment(folder: Path, asked: list[Case], answers: list[Boxes], figures: dict[str, Figure]) -> None:
    sam = build_sam(json.loads((folder / "config.json").read_text()))
    sam.load_state_dict({name: value.float() for name, value in load_file(folder / "model.safetensors").items()})
    predictor = SamPredictor(sam.eval())

    def mask(drawn: Scene, box: tuple[float, ...]) -> NDArray[np.bool_]:
        predictor.set_image(drawn.rgb)
        masks, scores, _ = predictor.predict(box=np.array(box), multimask_output=True)
        return np.asarray(masks[scores.argmax()])

    found = [(case, boxes[0][1]) for case, boxes in zip(asked, answers, strict=True) if boxes]
    figures["mask IoU from the detected box"] = average(
        [mask_iou(mask(case.scene, box), case.thing.mask) for case, box in found]
    )
    figures["mask IoU from the true box"] = average(
        [mask_iou(mask(case.scene, case.thing.box_xyxy), case.thing.mask) for case in asked]
    )


def _name(folder: Path, asked: list[Case], figures: dict[str, Figure]) -> None:
    load: Any = CLIPModel.from_pretrained
    model, tokenizer = load(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    right = []
    for number, case in enumerate(asked):
        others = np.random.default_rng(number).permutation(
            [name for name in CATEGORIES if name != case.thing.category]
        )[:3]
        captions = [f"a {colour} {name}" for name in (case.thing.category, *others) for colour in COLOURS]
        pixels = as_pixels(neutral_crop(case.scene.rgb, case.thing.mask, ENCODER_PX)[None])
        best = int(
            model(
                pixel_values=pixels, **tokenizer(captions, padding=True, return_tensors="pt")
            ).logits_per_image.argmax()
        )
        right.append(captions[best] == f"a {case.thing.colour} {case.thing.category}")
    figures["right caption of 40"] = share(right)


def _paint(folder: Path, asked: list[Case], figures: dict[str, Figure]) -> None:
    load: Any = StableDiffusionInpaintPipeline.from_pretrained
    pipeline = load(folder, safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    regions = [context_region(case.thing.mask, PAINTER_PX) for case in asked]
    crops = [cut(case.scene.rgb, region, PAINTER_PX) for case, region in zip(asked, regions, strict=True)]
    shown = [cut_mask(case.thing.mask, region, PAINTER_PX) for case, region in zip(asked, regions, strict=True)]
    figures["autoencoder PSNR, dB"] = average([_psnr(pipeline.vae, crop) for crop in crops])
    wanted = [
        (_other(COLOURS, case.thing.colour, number), _other(PATTERNS, case.thing.pattern, number))
        for number, case in enumerate(asked)
    ]
    prompts = [
        f"a {pattern} {colour} {case.thing.category}" for (colour, pattern), case in zip(wanted, asked, strict=True)
    ]
    painted = repaint(pipeline, crops, shown, prompts)
    seen = [nearest_colour(crop, mask) for crop, mask in zip(painted, shown, strict=True)]
    figures["asked colour seen after repaint"] = share(
        [one == colour for one, (colour, _) in zip(seen, wanted, strict=True)]
    )
    figures["true colour seen in true pictures (the judge's ceiling)"] = share(
        [nearest_colour(crop, mask) == case.thing.colour for crop, mask, case in zip(crops, shown, asked, strict=True)]
    )


def repaint(
    pipeline: Any, crops: list[NDArray[np.uint8]], masks: list[NDArray[np.bool_]], prompts: list[str]
) -> list[NDArray[np.uint8]]:
    """Repaint each crop (256, 256, 3) within its mask grown by 4 pixels, and paste nothing back; noise by number."""
    painted: list[NDArray[np.uint8]] = []
    for first in range(0, len(crops), PAINT_BATCH):
        part = slice(first, first + PAINT_BATCH)
        out = pipeline(
            prompts[part],
            image=[Image.fromarray(crop) for crop in crops[part]],
            mask_image=[Image.fromarray(grown(mask, GROW_PX)) for mask in masks[part]],
            height=PAINTER_PX,
            width=PAINTER_PX,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(number) for number in range(first, first + len(crops[part]))],
        )
        painted += [np.asarray(image) for image in out.images]
    return painted


def nearest_colour(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str:
    """Which of the ten colours the mask's median is nearest to in CIELAB; the rim, which is blended, is left out."""
    inner = binary_erosion(mask, iterations=3)
    inside = rgb[inner if inner.sum() > 40 else mask]
    lab = rgb2lab(np.median(inside, 0)[None, None] / 255)[0, 0]
    named = rgb2lab(np.array([list(COLOURS.values())]) / 255)[0]
    return list(COLOURS)[int(((named - lab) ** 2).sum(1).argmin())]


def box_iou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union of two boxes, left top right bottom."""
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty."""
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def _psnr(vae: Any, crop: NDArray[np.uint8]) -> float:
    inputs = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    error = vae.decode(vae.encode(inputs).latent_dist.mode()).sample.clamp(-1, 1) - inputs
    return float(10 * torch.log10(4 / error.pow(2).mean()))


def _other(names: Iterable[str], taken: str, number: int) -> str:
    free = [name for name in names if name != taken]
    return free[number % len(free)]


def main() -> None:
    """Log every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("embedded_dir", type=Path, nargs="?", default=Path(__file__).parents[1] / "embedded")
    parser.add_argument("--scenes", type=int, default=100)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name, figure in evaluate(arguments.embedded_dir, arguments.scenes).items():
        _log.info("%s: %s", name, figure)


if __name__ == "__main__":
    main()
