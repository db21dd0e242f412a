"""`make bench`: Packshot, a plain script and the bare stages over the same items, in one run, as ratios.

Steady rates are taken between the 10th and the 90th percentile of outputs, from the times at which files appeared.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.memory import peak_bytes
from pipelines import catalogue
from pipelines import recipe as recipes
from pipelines.executors.apply import apply
from pipelines.executors.placement import LOCAL
from pipelines.graph import build
from pipelines.pixels.images import encode
from pipelines.storage import Store
from sample_world.drawing.scenes import scene

ITEMS = 96
FIRST_SEED = 3_000_000
BATCH = 4
RESULTS = Path(__file__).with_name("RESULTS.md")
GIVEN = {
    "name": "bench",
    "models": "embedded",
    "prompts": {"find": "{category}", "paint": "a {colour} {category}"},
    "detect": {"min_score": 0.05},  # every item is painted, so that both sides do the same work
    "paint": {"variants": 2, "steps": 8},
    "judge": {"keep": "all"},
}


def main() -> None:
    """Measure, print, and write RESULTS.md."""
    recipe = recipes.parse(GIVEN)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        table = make_items(folder / "items")
        plain = plain_rate(folder, table, recipe)
        ours = packshot_rate(folder, table)
        stages = bare_stages(folder, table, recipe)
        few, many = (peak_bytes(items, folder / f"memory-{items}") for items in (100, 1000))
    text = report(recipe, plain, ours, stages, few, many)
    RESULTS.write_text(text, encoding="utf-8")
    Console().print(text, markup=False)


def make_items(folder: Path) -> Path:
    """Scenes of 640 x 512 as JPEG-sized PNG files, the largest product of each named in a product table."""
    folder.mkdir()
    rows: dict[str, list[str]] = {"sku": [], "image": [], "category": [], "colour": []}
    colours = ("red", "green", "blue", "yellow", "black")
    for number in range(ITEMS):
        made = scene(FIRST_SEED + number, (640, 512))
        largest = max(made.objects, key=lambda thing: int(thing.mask.sum()))
        (folder / f"{number}.png").write_bytes(encode(made.rgb, "png"))
        for column, value in zip(
            rows, (f"k{number:03d}", f"{number}.png", largest.category, colours[number % 5]), strict=True
        ):
            rows[column].append(value)
    pq.write_table(pa.table(rows).replace_schema_metadata({b"packshot_sample": b"1"}), folder / "products.parquet")
    return folder / "products.parquet"


def plain_rate(folder: Path, table: Path, recipe: recipes.Recipe) -> float:
    """Outputs a second of the plain script, in a process of its own."""
    products = pq.read_table(table).to_pylist()
    given = {
        "crop_px": recipe.mask.crop_px,
        "negative": recipe.prompts.negative,
        "min_score": recipe.detect.min_score,
        **{name: getattr(recipe.paint, name) for name in ("steps", "guidance", "variants")},
        "jobs": [
            {
                "key": row["sku"],
                "image": str(table.parent / row["image"]),
                "category": row["category"],
                "prompt": f"a {row['colour']} {row['category']}",
            }
            for row in products
        ],
    }
    (folder / "jobs.json").write_text(json.dumps(given))
    out = folder / "plain"
    out.mkdir()
    subprocess.run([sys.executable, "-m", "benchmarks.plain_script", str(folder / "jobs.json"), str(out)], check=True)
    return steady_rate(out)


def packshot_rate(folder: Path, table: Path) -> float:
    """Outputs a second of `packshot render`, in a process of its own, on a Ray of its own."""
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(json.dumps(GIVEN))
    out = folder / "packshot"
    command = ["render", str(table), "--recipe", str(recipe_file), "--output", str(out), "--max-failed", "1"]
    subprocess.run([sys.executable, "-m", "jobs.cli", *command], check=True)
    return steady_rate(out / "images")


def steady_rate(folder: Path) -> float:
    """Files a second between the 10th and the 90th percentile of the times at which they appeared."""
    times = np.sort([path.stat().st_mtime for path in folder.rglob("*") if path.is_file()])
    first, last = np.percentile(times, [10, 90], method="nearest")
    return float(((times > first) & (times <= last)).sum() / (last - first))


def bare_stages(folder: Path, table: Path, recipe: recipes.Recipe) -> dict[str, float]:
    """Seconds an item of every stage called by itself, fed from memory, warm."""
    rows, _ = catalogue.product_rows(str(table), recipe)
    seconds: dict[str, float] = {}
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    for node in build(recipe, Store(str(folder / "bare"))).nodes:
        stage = node.make()
        apply(node.name, stage, batches[0])
        shutil.rmtree(folder / "bare", ignore_errors=True)
        started = time.perf_counter()
        batches = [apply(node.name, stage, batch) for batch in batches]
        seconds[node.name] = (time.perf_counter() - started) / len(rows)
    return seconds


def report(recipe: recipes.Recipe, plain: float, ours: float, stages: dict[str, float], few: int, many: int) -> str:
    """The tables as Markdown, with machine and versions."""
    outputs_an_item = recipe.paint.variants
    bound = outputs_an_item * LOCAL[0].replicas / sum(stages.values())
    rows = [
        ("Packshot over the plain script, steady outputs a second", f"{ours / plain:.2f}", ">= 1.0"),
        ("Packshot over the bound: bare stages in as many loops as it has processes", f"{ours / bound:.2f}", ">= 0.85"),
        ("peak summed PSS, 1,000 items over 100, fakes", f"{many / few:.2f}", "<= 1.1"),
    ]
    lines = [
        "# Results",
        "",
        f"{platform.machine()}, {_cpu()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("ray", "torch", "diffusers", "transformers")),
        f"{ITEMS} items of 640 x 512, {outputs_an_item} variants of {recipe.paint.steps} steps; one run.",
        "",
        "| ratio | measured | bar |",
        "|---|---|---|",
        *(f"| {what} | {figure} | {bar} |" for what, figure, bar in rows),
        "",
        f"Plain script {plain:.2f}, Packshot {ours:.2f}, bound {bound:.2f} outputs a second; "
        f"peak {few / 2**20:.0f} MiB with 100 items, {many / 2**20:.0f} MiB with 1,000.",
        "",
        "| bare stage | seconds an item |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in stages.items()),
        "",
    ]
    return "\n".join(lines)


def _cpu() -> str:
    import os

    return f"{os.cpu_count()} CPUs"


if __name__ == "__main__":
    main()
