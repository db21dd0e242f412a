"""Take the product out and go on with what lies behind it."""

from __future__ import annotations

from typing import Literal

from pipelines.tasks.base import Task
from pipelines.tasks.on_source import FillUnderMask, edit_with_fill


class RemoveLayout(FillUnderMask):
    """The picture is painted on where it stands."""

    task: Literal["remove"] = "remove"


TASK = Task(
    name="remove",
    layout=RemoveLayout,
    edit=edit_with_fill,
    # What is removed leaves neither its shadow nor its outline to tell what was there. To fit its colours made it
    # worse: Delta E 2000 to the scene without the product is 4.5 with the fit, 3.0 without, on 7 held-out products.
    defaults={
        "paint": {"guidance": 1.0, "strength": 0.35},
        "mask": {"grow": 0.03, "shadow_margin": 0.12, "denoise_shape": "box"},
        "compose": {"colour_fit": False},
        "score": {"likeness": False},
    },
    fill="telea",  # where Krita AI Diffusion takes LaMa
)
