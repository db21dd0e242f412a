"""Which way imports point: the order of the rooms in docs/design.md and in the README's tree, held.

Every import counts, also one inside a function or for types alone: an arrow that is hidden is an arrow all the same.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "serve", "jobs", "sample_world")
MAY_NOT_IMPORT = {"pipelines": {"serve", "jobs", "sample_world"}, "serve": {"jobs", "sample_world"}}
ROOMS = (
    ("report",),
    ("night",),
    ("executors",),
    ("graph",),
    ("stages",),
    ("models", "catalogue"),
    ("recipe",),
    ("tasks",),
    ("pixels",),
    ("rows", "storage"),
    ("strict", "errors", "embedded", "scores"),
)
"""The rooms of `pipelines` from the top. Each may import those below it, and none that is on its own floor."""
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
Imports = Mapping[str, frozenset[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the packages by its dotted name; a package's own is its `__init__`."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports(found: Mapping[str, Path]) -> Imports:
    """What each module imports of the others."""
    return {
        name: frozenset(
            one for one in imported(path.read_text(encoding="utf-8"), found) if one in found and one != name
        )
        for name, path in found.items()
    }


def imported(code: str, found: Mapping[str, Path]) -> Iterator[str]:
    """The dotted names that code imports, wherever it does; `from a import b` is `a.b` where that is a module."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in found else str(node.module)


def room_of(module: str) -> str:
    """`pipelines.pixels.masks` is in `pixels`; `pipelines` itself is the door, in no room."""
    return module.split(".")[1] if "." in module else ""


def upward(of: Imports) -> list[str]:
    """The imports between rooms of `pipelines` that do not point down."""
    return [
        f"{name} imports {other}"
        for name, others in of.items()
        for other in sorted(others)
        if name.startswith("pipelines.")
        and other.startswith("pipelines.")
        and room_of(name) != room_of(other)
        and FLOORS[room_of(name)] >= FLOORS[room_of(other)]
    ]


def across(of: Imports) -> list[str]:
    """The imports of a package that another may not have."""
    return [
        f"{name} imports {other}"
        for name, others in of.items()
        for other in sorted(others)
        if other.partition(".")[0] in MAY_NOT_IMPORT.get(name.partition(".")[0], set())
    ]


def circle(of: Imports) -> list[str]:
    """The modules of a circle of imports; none where there is none."""
    try:
        tuple(TopologicalSorter(of).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def ours() -> Imports:
    return imports(modules())


def test_the_product_knows_neither_its_callers_nor_the_sample_world(ours):
    assert across(ours) == []


def test_every_room_has_a_floor(ours):
    rooms = {room_of(name) for name in ours if name.startswith("pipelines.")}

    assert rooms - set(FLOORS) == set(), "say in ROOMS which rooms a new one may import"


def test_rooms_import_only_rooms_below_them(ours):
    assert upward(ours) == []


def test_imports_go_in_no_circle(ours):
    assert circle(ours) == []


def a_house(folder: Path, **files: str) -> Imports:
    for name, code in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return imports(modules(folder))


@pytest.mark.parametrize(
    "code",
    [
        "from pipelines.stages import read",
        "import pipelines.stages.read",
        "from pipelines.stages.read import Read",
        "def late():\n    from pipelines.stages.read import Read",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pipelines.stages.read import Read",
    ],
)
def test_an_import_upward_is_found_wherever_it_stands(tmp_path, code):
    house = a_house(tmp_path, pipelines__pixels__masks=code, pipelines__stages__read="")

    assert upward(house) == ["pipelines.pixels.masks imports pipelines.stages.read"]


def test_imports_of_a_caller_and_circles_are_found(tmp_path):
    house = a_house(
        tmp_path,
        pipelines__graph="import sample_world.drawing",
        sample_world__drawing="import jobs.cli",
        jobs__cli="import sample_world.drawing",
    )

    assert across(house) == ["pipelines.graph imports sample_world.drawing"]
    assert set(circle(house)) == {"sample_world.drawing", "jobs.cli"}
