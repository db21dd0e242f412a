"""Is the product among what is cut out unasked, and is it put first: by words, and by another picture of it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from typing import Final

from pipelines.models import Proposals, Proposer
from pipelines.pixels.images import Rgb, encode
from pipelines.pixels.masks import from_rle
from pipelines.pixels.overlap import mask_iou
from pipelines.recipe.settings import FindSettings
from pipelines.rows import ItemError
from pipelines.stages.find import Find, proposer_of
from sample_world.drawing.scenes import SceneObject, caption, product_picture
from sample_world.evaluation.bars import Bar
from sample_world.evaluation.cases import Case, Held, products
from sample_world.evaluation.figures import Figure, share

MIN_IOU: Final = 0.75
AMONG: Final = 5
ALL: Final = 50
BARS: Final = {
    "automatic masks, by text: product among the five, IoU >= 0.75": Bar(0.95, 0.99),
    "automatic masks, by text: product first": Bar(0.80, 0.90),
    "automatic masks, by reference: product first": Bar(0.80, 0.90),
    "automatic masks, by reference: absent product answered": Bar(0.10, 0.05, at_most=True),
}


@dataclass(frozen=True, eq=False)
class Question:
    """A product of a scene, and a product of another scene whose look no product of this one has."""

    case: Case
    stranger: SceneObject


@dataclass(frozen=True)
class FindAnswer:
    """The IoU of the candidates with the product, best score first, and whether the first one was good enough.

    `absent_found` says whether the stranger was answered; `named_ious` are those of asking for the product's bare
    category, None where the scene has two of it; `all_ious` those of everything that was cut out, none by reference.
    """

    ious: tuple[float, ...]
    found: bool
    absent_found: bool
    named_ious: tuple[float, ...] | None = None
    all_ious: tuple[float, ...] = ()


def measure_finding(settings: FindSettings, scenes: Sequence[Held], processes: int = 0) -> dict[str, Figure]:
    """The figures of the node `find`, by text and by reference; one product of each scene is asked for.

    By text it is asked for by its description, `a striped red shirt`; by reference with a shop picture of it. What is
    found but rejected as too unlike counts as missed.

    Args:
        settings: `by` does not count; five candidates are kept.
        scenes: those without a product that is large enough are left out.
        processes: so many of their own work side by side; 0 is this one.
    """
    asked, settings = questions(scenes), settings.model_copy(update={"keep": AMONG, "choose": "best"})
    if not processes:
        return figures([_answers(settings, one) for one in asked])
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:  # not forked: torch's threads do not survive it
        return figures(list(pool.map(_answers, [settings] * len(asked), asked, chunksize=8)))


def questions(scenes: Sequence[Held]) -> list[Question]:
    """One question a scene: its products take turns, and so do the strangers."""
    of_scene = [some for held in scenes if (some := products([held]))]
    cases = [some[some[0].held.seed % len(some)] for some in of_scene]
    asked = []
    for number, case in enumerate(cases):
        captions = {caption(thing) for thing in case.held.scene.objects}
        strangers = (one.thing for one in (*cases[number + 1 :], *cases[:number]) if caption(one.thing) not in captions)
        if (stranger := next(strangers, None)) is not None:
            asked.append(Question(case, stranger))
    return asked


def figures(answers: Sequence[tuple[FindAnswer, FindAnswer]]) -> dict[str, Figure]:
    """The figures of the answers by text and by reference, and what bounds them: was the product cut out at all?"""
    text, reference = [one for one, _ in answers], [one for _, one in answers]
    named = [one.named_ious for one in text if one.named_ious is not None]
    among, first, by_reference, absent = BARS
    return {
        among: share([_hit(one.ious[:AMONG]) for one in text]),
        first: share([one.found and _hit(one.ious[:1]) for one in text]),
        by_reference: share([one.found and _hit(one.ious[:1]) for one in reference]),
        absent: share([one.absent_found for one in reference]),
        "automatic masks: product cut out at all": share([_hit((*one.ious, *one.all_ious)) for one in text]),
        "automatic masks, by text: first, whatever its score": share([_hit(one.ious[:1]) for one in text]),
        "automatic masks, by text: absent product answered": share([one.absent_found for one in text]),
        "automatic masks, by bare category: among the five": share([_hit(ious[:AMONG]) for ious in named]),
        "automatic masks, by bare category: first, whatever its score": share([_hit(ious[:1]) for ious in named]),
        "automatic masks, by reference: among the five": share([_hit(one.ious[:AMONG]) for one in reference]),
        "automatic masks, by reference: first, whatever its score": share([_hit(one.ious[:1]) for one in reference]),
    }


def _hit(ious: Sequence[float]) -> bool:
    return max(ious, default=0.0) >= MIN_IOU


def _answers(settings: FindSettings, asked: Question) -> tuple[FindAnswer, FindAnswer]:
    thing, held = asked.case.thing, asked.case.held
    alone = [one.category for one in held.scene.objects].count(thing.category) == 1
    by_text, by_reference = (_stage(settings.model_copy(update={"by": by})) for by in ("clip", "reference"))
    everything = _stage(settings.model_copy(update={"by": "clip", "keep": ALL, "crop_margin": None}))

    def ask(stage: Find, prompt: str, shown: SceneObject) -> tuple[tuple[float, ...], bool]:
        reference = encode(product_picture(shown, held.seed).rgb, "png")
        (update,) = stage([held.row(find_prompt=prompt, reference_bytes=[reference])])
        if isinstance(update, ItemError):
            raise RuntimeError(f"`find` failed a held-out scene: {update.reason}, {update.detail}")
        ious = tuple(mask_iou(from_rle(rle), thing.mask) for rle in update["object_masks_rle"])
        return ious, "reason" not in update

    words, other = caption(thing), caption(asked.stranger)
    named = ask(by_text, thing.category, thing)[0] if alone else None
    return (
        FindAnswer(
            *ask(by_text, words, thing),
            ask(by_text, other, asked.stranger)[1],
            named,
            ask(everything, words, thing)[0],
        ),
        FindAnswer(*ask(by_reference, words, thing), ask(by_reference, other, asked.stranger)[1]),
    )


class _Remembering:
    """A proposer that cuts the last picture out once, whatever is asked of it."""

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self.last: tuple[bytes, Proposals] | None = None

    def __call__(self, images: Sequence[Rgb]) -> Iterator[Proposals]:
        for image in images:
            key = sha256(image.tobytes()).digest()
            if self.last is None or self.last[0] != key:
                self.last = key, next(iter(self.proposer([image])))
            yield self.last[1]


@cache
def _remembering(settings: FindSettings) -> _Remembering:
    return _Remembering(proposer_of(settings))


@cache
def _stage(settings: FindSettings) -> Find:
    cut_out = settings.model_copy(update={"by": "clip", "keep": AMONG, "crop_margin": None})  # what changes no proposal
    return Find(settings, _remembering(cut_out))
