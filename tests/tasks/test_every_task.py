"""A task is one file: nothing but its file names it, and it has a ready recipe and a row in the README."""

import re
from pathlib import Path

import pytest

from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.tasks import TASKS

ROOT = Path(__file__).parents[2]
NAME = re.compile("|".join(rf"[\"']{name}[\"']" for name in TASKS))
MAY_NAME_TASKS = ("pipelines/tasks/", "pipelines/pixels/")


def product_lines():
    for folder in ("pipelines", "serve", "jobs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                yield place, number, line


def test_no_name_of_a_task_stands_in_the_code_but_in_its_own_file():
    naming = [(place, number, line) for place, number, line in product_lines() if NAME.search(line)]

    assert [one for one in naming if not one[0].startswith(MAY_NAME_TASKS)] == []
    assert {re.findall(r"tasks/(\w+)\.py", place)[0] for place, _, _ in naming if "/tasks/" in place} == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_file_a_ready_recipe_and_a_row_in_the_readme(name):
    assert (ROOT / "pipelines" / "tasks" / f"{name}.py").is_file()
    assert recipes.load(name).paint.task == name
    assert re.search(rf"^\| `{name}` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_refused_without_what_it_needs_and_says_what_that_is(name):
    ready = recipes.read(name)
    for need in TASKS[name].needs:
        section, _, setting = need.partition(".")
        without = {**ready, section: {key: value for key, value in ready[section].items() if key != setting}}

        with pytest.raises(ConfigError, match=f"`{need}` says nothing, and the task '{name}' needs it"):
            recipes.parse(without)
