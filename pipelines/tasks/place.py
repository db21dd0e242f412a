"""Set the product into the picture of a scene, and harmonise the seam."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.pixels import layouts
from pipelines.tasks.base import Edit, EditError, Given, Growth, LayoutSettings, Task, one_region


class PlaceLayout(LayoutSettings):
    """The product cut out, set into the picture that `catalogue.scene` names, and its seam harmonised."""

    task: Literal["place"] = "place"
    centre_xy: tuple[float, float] = Field(
        (0.5, 0.6), description="Where the product's middle goes. Shares of the scene."
    )
    height: float = Field(0.5, gt=0, le=2, description="The product's height by the scene's.")
    rotation_deg: float = Field(0.0, ge=-180, le=180, description="Turn, counter-clockwise. Degrees.")
    shadow: float = Field(0.5, ge=0, le=1, description="Darkness of the contact shadow; 0 is none.")
    seam_px: int = Field(
        4, ge=0, le=256, description="How far to both sides of its outline the seam is harmonised; 0 is not. Pixels."
    )


def edit(layout: PlaceLayout, growth: Growth, given: Given) -> Edit:
    """Cut the product out, place it in the scene behind what lies in front, and paint its seam.

    Raises:
        EditError: `scene_missing`, where the row names no scene; `outside_the_scene`, where nothing of it would show.
    """
    if given.scene is None:
        raise EditError("scene_missing", "the row names no scene; `place` needs one")
    placed = layouts.placed_in_scene(
        given.cutout(),
        given.scene,
        centre_xy=layout.centre_xy,
        height=layout.height,
        rotation_deg=layout.rotation_deg,
        in_front=given.front,
        shadow_opacity=layout.shadow,
        seam_px=layout.seam_px,
    )
    if not placed.allow.any():
        where = f"centre {layout.centre_xy}, height {layout.height} of the scene's"
        raise EditError("outside_the_scene", where + (", behind what lies in front" if given.front is not None else ""))
    return one_region(placed)


TASK = Task(
    name="place",
    layout=PlaceLayout,
    edit=edit,
    keeps_product=True,
    moves_picture=True,
    own_canvas=True,
    needs=("catalogue.scene",),
    reads=("scene_bytes", "front_mask_rle"),
    # 0.4 for a seam is the strength of Krita AI Diffusion's second pass.
    defaults={"paint": {"strength": 0.4}, "score": {"likeness": False}},
)
