"""Layouts: where a task lets the picture change, on what it paints, and what it must leave alone."""

from pipelines.pixels.layouts.insert import inserted
from pipelines.pixels.layouts.layout import CanvasTooLarge, Layout, background, everything, replaced
from pipelines.pixels.layouts.outpaint import outpainted
from pipelines.pixels.layouts.place import placed_in_scene
from pipelines.pixels.layouts.studio import in_own_frame, in_studio

__all__ = [
    "CanvasTooLarge",
    "Layout",
    "background",
    "everything",
    "in_own_frame",
    "in_studio",
    "inserted",
    "outpainted",
    "placed_in_scene",
    "replaced",
]
