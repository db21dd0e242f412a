"""What workers get: the code, the recipes and the embedded models, and no tests."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_leaves_tests_and_benchmarks_out(names):
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "training/"))]


def test_wheel_holds_every_file_that_the_package_reads(names):
    package = ROOT / "pipelines"
    kinds = {".yaml", ".jinja", ".json", ".safetensors", ".md"}
    needed = {
        str(path.relative_to(ROOT))
        for folder in ("recipe", "report", "embedded")
        for path in (package / folder).rglob("*")
        if path.suffix in kinds
    }

    assert needed <= names
    assert len(needed) > 10
