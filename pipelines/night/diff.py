"""What changed between two published runs, item by item."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pipelines.errors import ConfigError
from pipelines.night import manifest
from pipelines.night.manifest import Published


@dataclass(frozen=True)
class Difference:
    """Item keys, in order, by what happened to them from one run to another.

    Attributes:
        added: items that only the later run has.
        gone: items that only the earlier run has.
        changed_status: items of both, by both statuses: `ok -> failed`.
        changed_pictures: items of both whose delivered pictures have other bytes, or of which there are more or fewer.
    """

    added: list[str]
    gone: list[str]
    changed_status: dict[str, list[str]]
    changed_pictures: list[str]

    def lines(self) -> Iterator[tuple[str, list[str]]]:
        """Each thing that can happen, in words, with its items."""
        yield "added", self.added
        yield "gone", self.gone
        yield from self.changed_status.items()
        yield "other pictures", self.changed_pictures


def difference(before: Published, after: Published) -> Difference:
    """Compare the items of two runs by status and by the sha256 of their pictures.

    Raises:
        InfrastructureError: a file of a manifest is not what `run.json` says.
    """
    old, new = _outcomes(before), _outcomes(after)
    both = sorted(old.keys() & new.keys())
    statuses: defaultdict[str, list[str]] = defaultdict(list)
    for key in both:
        if old[key][0] != new[key][0]:
            statuses[f"{old[key][0]} -> {new[key][0]}"].append(key)
    return Difference(
        sorted(new.keys() - old.keys()),
        sorted(old.keys() - new.keys()),
        dict(sorted(statuses.items())),
        [key for key in both if old[key][1] != new[key][1]],
    )


def runs_to_compare(output_uri: str, before: int | None, after: int | None) -> tuple[Published, Published]:
    """Open two runs: by default the newest one and the one before it; with `before` alone, that one and the newest.

    Raises:
        ConfigError: fewer than two runs are published.
        Missing: no run of such a number is published.
    """
    if before is not None and after is not None:
        return manifest.open_run(output_uri, before), manifest.open_run(output_uri, after)
    last_two = list(islice(manifest.published_runs(output_uri), 2))
    if len(last_two) < 2:
        raise ConfigError(f"{len(last_two)} runs are published under {output_uri}; two can be compared, render again")
    return last_two[1] if before is None else manifest.open_run(output_uri, before), last_two[0]


def _outcomes(published: Published) -> dict[str, tuple[str, list[str]]]:
    """Status and the delivered pictures' sha256, by item key."""
    columns = ["item_key", "status", "image_sha256s"]
    return {
        row["item_key"]: (row["status"], [digest for digest in row["image_sha256s"] or () if digest])
        for table in manifest.read(published, "items", columns)
        for row in table.to_pylist()
    }
