"""Render the training set once, into memory-mapped arrays that every trainer reads."""

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.pixels.crops import context_region, cut, cut_mask, letterbox, neutral_crop
from sample_world.drawing.scenes import TRAINING_SEED, Scene, SceneObject, example_size, scene

SIDE_PX: Final = 256
ALONE_PX: Final = 128
DETECTOR_PX: Final = 160
CHUNK: Final = 25
MIN_CROP_SHARE: Final = 0.008
LAYOUT: Final = {
    "scenes": (SIDE_PX, SIDE_PX, 3),
    "small_scenes": (DETECTOR_PX, DETECTOR_PX, 3),
    "scene_masks": (SIDE_PX * SIDE_PX // 8,),
    "crops": (SIDE_PX, SIDE_PX, 3),
    "crop_masks": (SIDE_PX * SIDE_PX // 8,),
    "alone": (ALONE_PX, ALONE_PX, 3),
}
SCENES_ALONE: Final = frozenset({"small_scenes"})  # all that the detector sees, so that it can have many more of them
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """A product in the training set.

    `scene` is its row in the scenes, its own number its row in the scene masks, and `crop` its row in the crops, their
    masks and the products alone, or None where too little of it shows. The box is in fractions of the letterboxed
    square; `share` is the part of the picture that the mask covers.
    """

    scene: int
    category: str
    colour: str
    pattern: str
    box_xyxy: tuple[float, float, float, float]
    share: float
    crop: int | None
    worn: bool


class Examples:
    """The training set on disk: uint8 arrays by name (of LAYOUT), memory-mapped, and what is in them.

    `of_scene` lists the objects of each scene, `backgrounds` names what each stands before, and `widths` says how much
    of its letterboxed square's width its picture fills.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.objects = [Example(**one) for one in index["objects"]]
        self.of_scene: list[list[int]] = [[] for _ in index["backgrounds"]]
        for number, one in enumerate(self.objects):
            self.of_scene[one.scene].append(number)
        self.arrays: dict[str, NDArray[np.uint8]] = {
            name: np.memmap(folder / f"{name}.u8", np.uint8, "r", shape=(index["counts"][name], *shape))
            for name, shape in LAYOUT.items()
            if (folder / f"{name}.u8").exists()
        }
        self.backgrounds: list[str] = index["backgrounds"]
        self.widths: list[float] = index["widths"]
        self.with_crop = [number for number, one in enumerate(self.objects) if one.crop is not None]

    def masks(self, name: str, rows: NDArray[np.integer] | list[int]) -> NDArray[np.bool_]:
        """(N, SIDE_PX, SIDE_PX) of `scene_masks` or `crop_masks`."""
        return np.unpackbits(self.arrays[name][rows], axis=1).reshape(-1, SIDE_PX, SIDE_PX).astype(bool)


def render_examples(
    folder: Path, count: int, first_seed: int = TRAINING_SEED, names: frozenset[str] = frozenset(LAYOUT)
) -> Examples:
    """Render `count` scenes with two processes, or open them if that is done; an unfinished set is begun anew.

    `names` says which arrays are kept; of the others only the counts are.
    """
    if not (folder / "index.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        objects: list[dict[str, Any]] = []
        backgrounds: list[str] = []
        widths: list[float] = []
        counts = dict.fromkeys(LAYOUT, 0)
        with ProcessPoolExecutor(2) as pool:
            chunk = partial(_chunk, end=first_seed + count, names=names)
            for done, (arrays, found, behind, wide) in enumerate(
                pool.map(chunk, range(first_seed, first_seed + count, CHUNK))
            ):
                objects += (
                    {**one, "scene": one["scene"] + len(backgrounds), "crop": _moved(one["crop"], counts["crops"])}
                    for one in found
                )
                for name, array in arrays.items():
                    counts[name] += len(array)
                    with (folder / f"{name}.u8").open("ab" if done else "wb") as file:
                        file.write(array.tobytes())
                backgrounds += behind
                widths += wide
                if done % 20 == 0:
                    _log.info("rendered %d of %d scenes, %d products", len(backgrounds), count, len(objects))
        temporary = folder / "index.json.part"
        index = {"counts": counts, "objects": objects, "backgrounds": backgrounds, "widths": widths}
        temporary.write_text(json.dumps(index))
        os.replace(temporary, folder / "index.json")
    return Examples(folder)


def _moved(crop: int | None, by: int) -> int | None:
    return None if crop is None else crop + by


def _chunk(
    first: int, end: int, names: frozenset[str]
) -> tuple[dict[str, NDArray[np.uint8]], list[dict[str, Any]], list[str], list[float]]:
    rows: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in LAYOUT if name in names}
    objects, backgrounds, widths = [], [], []
    crops = 0
    for number, seed in enumerate(range(first, min(end, first + CHUNK))):
        drawn = scene(seed, example_size(seed))
        backgrounds.append(drawn.background)
        widths.append(drawn.rgb.shape[1] / max(drawn.rgb.shape[:2]))
        pictures = [("scenes", SIDE_PX), ("small_scenes", DETECTOR_PX)]
        for name, array in ((name, letterbox(drawn.rgb, side)[0]) for name, side in pictures if name in names):
            rows[name].append(array)
        for thing in drawn.objects:
            crop = crops if thing.mask.mean() >= MIN_CROP_SHARE and "crops" in names else None
            crops += crop is not None
            objects.append(asdict(_example(thing, number, crop)))
            if "scene_masks" in names:
                rows["scene_masks"].append(np.packbits(letterbox_mask(thing.mask, SIDE_PX)))
            for name, array in _crops(drawn, thing) if crop is not None else ():
                rows[name].append(array)
    stacked = {name: np.stack(some) if some else np.empty((0, *LAYOUT[name]), np.uint8) for name, some in rows.items()}
    return stacked, objects, backgrounds, widths


def _example(thing: SceneObject, scene_row: int, crop: int | None) -> Example:
    longest = max(thing.mask.shape)
    left, top, right, bottom = (float(side) / longest for side in thing.box_xyxy)
    return Example(
        scene_row,
        thing.category,
        thing.colour,
        thing.pattern,
        (left, top, right, bottom),
        float(thing.mask.mean()),
        crop,
        thing.worn,
    )


def _crops(drawn: Scene, thing: SceneObject) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    region = context_region(thing.mask, SIDE_PX)
    yield "crops", cut(drawn.rgb, region, SIDE_PX)
    yield "crop_masks", np.packbits(cut_mask(thing.mask, region, SIDE_PX))
    yield "alone", neutral_crop(drawn.rgb, thing.mask, ALONE_PX)


def letterbox_mask(mask: NDArray[np.bool_], side_px: int) -> NDArray[np.bool_]:
    """A mask as `letterbox` shows its picture: (side_px, side_px), True where half of a pixel is; False beyond."""
    scale = side_px / max(mask.shape)
    size_wh = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    square = np.zeros((side_px, side_px), bool)
    square[: size_wh[1], : size_wh[0]] = (
        np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size_wh, Image.Resampling.BILINEAR)) >= 128
    )
    return square
