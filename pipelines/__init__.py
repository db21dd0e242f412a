"""What happens to a catalogue's pictures: find the product, cut its mask, repaint it, judge the results, keep the best.

`render(rows, recipe) -> pyarrow.Table` is the whole library in one call, in this process. Importing this package loads
neither torch nor ray.
"""

from pipelines.executors.inline import render

__all__ = ["render"]
