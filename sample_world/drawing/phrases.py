"""What tells a product of a scene from others of its kind."""

from collections.abc import Sequence
from typing import Final, Protocol


class Described(Protocol):
    """What a phrase can say of a product in a picture."""

    @property
    def category(self) -> str:
        """Its name."""
        ...

    @property
    def worn(self) -> bool:
        """Whether a person wears or carries it."""
        ...

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """Where it is, in any unit."""
        ...


CARRIED: Final = {"bag": "bag in her hand", "hat": "hat on her head"}


def relations(objects: Sequence[Described]) -> list[tuple[str, int]]:
    """Phrases that tell one product from others of its kind by where it is, and the product that each one means.

    `left shoe` and `right shoe` where the outermost of two or more differ in place by a tenth of their width or more;
    `bag in her hand`, `hat on her head`, `shirt on the person` where one alone is worn, `bag on the floor` where one
    alone is not.
    """
    found = []
    for category in sorted({one.category for one in objects}):
        same = [number for number, one in enumerate(objects) if one.category == category]
        if len(same) < 2:
            continue
        ordered = sorted(same, key=lambda number: _middle(objects[number]))
        for phrase, end, next_to_it in (("left", 0, 1), ("right", -1, -2)):
            one, other = objects[ordered[end]], objects[ordered[next_to_it]]
            if abs(_middle(one) - _middle(other)) > 0.1 * (one.box_xyxy[2] - one.box_xyxy[0]):
                found.append((f"{phrase} {category}", ordered[end]))
        for worn in (True, False):
            alike = [number for number in same if objects[number].worn == worn]
            if len(alike) == 1:
                worn_phrase = CARRIED.get(category, f"{category} on the person")
                found.append((worn_phrase if worn else f"{category} on the floor", alike[0]))
    return found


def _middle(one: Described) -> float:
    return (one.box_xyxy[0] + one.box_xyxy[2]) / 2
