"""Write a sample catalogue: pictures, and a product table that asks for something else in each of them."""

import io
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sample_world.drawing.scenes import CATALOGUE_SEED, Scene, SceneObject, scene
from sample_world.drawing.shapes import CATEGORIES
from sample_world.drawing.textures import COLOURS, PATTERNS

TABLE: Final = "products.parquet"
LARGE_WH: Final = (1600, 2000)
MIN_SHARE: Final = 0.02
SCHEMA: Final = pa.schema(
    [
        ("sku", pa.string()),
        ("image", pa.string()),
        ("category", pa.string()),
        ("colour", pa.string()),
        ("pattern", pa.string()),
        ("title", pa.string()),
        ("price", pa.float64()),
    ],
    metadata={b"packshot_sample": b"1"},
)
ORIENTATION_TAG: Final = 0x0112
TURNED_RIGHT: Final = 6  # EXIF: turn what is stored a quarter clockwise to see it upright
TRUNCATED_BYTES: Final = 6000


def write_sample_catalogue(folder: Path, count: int = 24, seed: int = CATALOGUE_SEED) -> Path:
    """Write `images/` and `products.parquet` below a folder.

    A quarter of the pictures are 1600 x 2000 JPEGs, every second of these stored turned with an EXIF orientation; the
    others are PNGs and JPEGs of 256 to 900 pixels a side. `category` is a product that the picture shows on at least
    2 % of its area; `colour` and `pattern` are what to paint, and differ from what is there. Two rows more have honest
    problems: one asks for a category that is not in its picture, one names a truncated file.

    Args:
        folder: made if it is not there; files of the same names are replaced.
        count: good rows, at least 1.
        seed: the same seed gives the same bytes with the same versions of Pillow and pyarrow.

    Returns:
        The path of the table. Its schema's metadata says `packshot_sample: 1`.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"a catalogue of {count} products; expected at least 1")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = [_write_product(folder, number, seed) for number in range(count)]
    rows += [_write_absent(folder, count, seed), _write_truncated(folder, count + 1, seed)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / TABLE)
    return folder / TABLE


def _write_product(folder: Path, number: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, number))
    large = number % 4 == 1
    size_wh = LARGE_WH if large else _small_size(rng)
    drawn, shown = _picture_of_a_product(seed + 100 * number, size_wh, rng)
    name = f"images/{_sku(number)}.{'jpg' if large or number % 2 else 'png'}"
    (folder / name).write_bytes(_encoded(drawn, name, turned=large and number % 8 == 5))
    return _row(number, name, shown.category, *_another_look(shown, rng), rng)


def _write_absent(folder: Path, number: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, number))
    drawn, shown = _picture_of_a_product(seed + 100 * number, _small_size(rng), rng)
    absent = str(rng.choice([name for name in CATEGORIES if name not in {thing.category for thing in drawn.objects}]))
    name = f"images/{_sku(number)}.jpg"
    (folder / name).write_bytes(_encoded(drawn, name))
    return _row(number, name, absent, *_another_look(shown, rng), rng)


def _write_truncated(folder: Path, number: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng((seed, number))
    drawn, shown = _picture_of_a_product(seed + 100 * number, (640, 640), rng)
    name = f"images/{_sku(number)}.jpg"
    whole = _encoded(drawn, name)
    (folder / name).write_bytes(whole[: min(TRUNCATED_BYTES, len(whole) // 2)])
    return _row(number, name, shown.category, *_another_look(shown, rng), rng)


def _picture_of_a_product(
    first_seed: int, size_wh: tuple[int, int], rng: np.random.Generator
) -> tuple[Scene, SceneObject]:
    """The first scene from a seed on in which a product is large enough, and one of those products.

    A category that stands in the picture twice is passed over, since its name alone would not say which is meant.
    """
    for seed in range(first_seed, first_seed + 100):
        drawn = scene(seed, size_wh)
        names = [thing.category for thing in drawn.objects]
        fitting = [
            thing for thing in drawn.objects if thing.mask.mean() >= MIN_SHARE and names.count(thing.category) == 1
        ]
        if fitting:
            return drawn, fitting[rng.integers(len(fitting))]
    raise RuntimeError(f"none of the scenes {first_seed} to {first_seed + 99} shows a product on {MIN_SHARE:.0%} of it")


def _small_size(rng: np.random.Generator) -> tuple[int, int]:
    width, height = (int(side) for side in rng.integers(256, 901, 2))
    return min(width, 2 * height), min(height, 2 * width)


def _encoded(drawn: Scene, name: str, turned: bool = False) -> bytes:
    picture = Image.fromarray(drawn.rgb)
    exif = Image.Exif()
    if turned:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        exif[ORIENTATION_TAG] = TURNED_RIGHT
    file = io.BytesIO()
    if name.endswith(".png"):
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


def _another_look(shown: SceneObject, rng: np.random.Generator) -> tuple[str, str]:
    colour = str(rng.choice([name for name in COLOURS if name != shown.colour]))
    return colour, str(rng.choice([name for name in PATTERNS if name != shown.pattern]))


def _row(number: int, image: str, category: str, colour: str, pattern: str, rng: np.random.Generator) -> dict[str, Any]:
    title = f"{colour} {category}" if pattern == "plain" else f"{pattern} {colour} {category}"
    price = round(float(rng.uniform(9, 199))) + 0.99
    return {
        "sku": _sku(number),
        "image": image,
        "category": category,
        "colour": colour,
        "pattern": pattern,
        "title": title.capitalize(),
        "price": price,
    }


def _sku(number: int) -> str:
    return f"SAMPLE-{number:04d}"
