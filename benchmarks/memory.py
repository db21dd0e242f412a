"""Peak memory of a run over N items, with fakes in the place of models and payloads of the real size.

`python -m benchmarks.memory N FOLDER` runs; `peak_bytes` starts that and watches it from outside.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

SAMPLE_S = 0.5


def peak_bytes(items: int, folder: Path) -> int:
    """The largest sum of proportional set sizes of a run's processes, sampled twice a second."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.memory", str(items), str(folder)])
    peak = 0
    while process.poll() is None:
        peak = max(peak, _summed_pss(process.pid))
        time.sleep(SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"the run over {items} items ended with {process.returncode}")
    return peak


def _summed_pss(pid: int) -> int:
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def main(items: int, folder: Path) -> None:
    """Render `items` noisy pictures of some 250 kB each with fakes, on a Ray of this process's own."""
    import numpy as np
    import pyarrow as pa
    import ray

    from pipelines import catalogue
    from pipelines.executors import data
    from pipelines.executors.placement import LOCAL
    from pipelines.night.manifest import to_parquet
    from pipelines.pixels.images import encode
    from pipelines.rows import to_table
    from pipelines.storage import Store
    from tests.fakes import a_graph, a_picture, a_recipe

    folder.mkdir(parents=True)
    for number in range(16):
        picture = a_picture(number, (640, 512))
        noise = np.random.default_rng(number).integers(0, 3, picture.shape, np.uint8)
        noise[0, 0] = 0
        noise[(picture == picture[0, 0]).all(2)] = 0
        (folder / f"{number}.png").write_bytes(encode(picture + noise, "png"))
    recipe = a_recipe(folder, mask={"crop_px": 256}, paint={"variants": 4})
    keys = [f"k{number}" for number in range(items)]
    table = pa.table(
        {"sku": keys, "image": [f"{n % 16}.png" for n in range(items)], "category": ["mug"] * items, "colour": keys}
    )
    graph = a_graph(recipe, Store(str(folder / "out")))
    rows = catalogue.rows(recipe, table, str(folder))
    (folder / "rows.parquet").write_bytes(to_parquet(to_table(rows, graph.manifest_schema())))
    ray.init(
        num_cpus=4,
        object_store_memory=400 * 1024 * 1024,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    run_state = data.RunState.remote(items, [node.name for node in graph.nodes])
    paths = [str(folder / name) for name in ("rows.parquet", "parts")]
    data.run(graph, LOCAL, *paths, run_state)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
