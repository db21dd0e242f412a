"""What happens to a catalogue's pictures: find the product, cut its mask, repaint it, judge the results, keep the best.

`render(rows, recipe) -> pyarrow.Table` is the whole library in one call, in this process. Importing this package loads
neither torch nor ray.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.executors.inline import render

__all__ = ["render"]


def __getattr__(name: str) -> Any:
    """Import `render`, and all that it stands on, when it is first asked for: `packshot --help` needs none of it."""
    if name == "render":
        from pipelines.executors.inline import render

        return render
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
