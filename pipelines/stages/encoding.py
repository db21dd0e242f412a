"""A finished picture as the file that is delivered, how exact the file is, and where it may differ from its base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.images import Picture, encode
from pipelines.pixels.jpeg_blocks import SourceJpeg, changed_blocks, decoded_reach, with_blocks_kept
from pipelines.pixels.provenance import provenance_xmp
from pipelines.recipe.settings import DeliverSettings

CREDIT = "Packshot"


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """An encoded picture.

    exactness: `pixels`, every pixel outside the allow mask is the base's; `blocks`, every JPEG block without an allowed
    pixel is the source's; `none`, nothing is promised. may_differ: (H, W), where the decoded file may differ from its
    base: the allow mask; of `blocks`, the blocks that it touches and a ring that decoders smooth.
    """

    data: bytes
    format: Literal["png", "webp", "jpeg"]
    exactness: Literal["pixels", "blocks", "none"]
    may_differ: NDArray[np.bool_]


def blocks_wanted(settings: DeliverSettings) -> bool:
    """Whether a JPEG is to be delivered that keeps the blocks of its source."""
    return settings.format == "jpeg" and settings.exact


def as_file(
    settings: DeliverSettings,
    finished: NDArray[np.uint8],
    base: Picture,
    allow: NDArray[np.bool_],
    source: SourceJpeg | None,
) -> EncodedPicture:
    """Encode a finished picture with its base's alpha and profile, and a note of who made it.

    Args:
        settings: `format`, `exact` and `quality`. An exact JPEG keeps the source's blocks outside `allow`, and its
            quantisation tables; where the source's blocks cannot be kept, the file is a PNG, which is exact as well.
        finished: (H, W, 3).
        base: what the picture has to be outside the mask.
        allow: (H, W), where pixels may change.
        source: the file that the base was decoded from, where its blocks are wanted (`blocks_wanted`); None where a
            task made the base itself.

    Raises:
        RuntimeError: a block that had to stay has changed.
    """
    xmp = provenance_xmp(CREDIT, None)
    if settings.format == "jpeg" and not settings.exact:
        data = encode(finished, "jpeg", icc_profile=base.icc_profile, xmp=xmp, quality=settings.quality)
        return EncodedPicture(data, "jpeg", "none", allow)
    if blocks_wanted(settings) and source is not None and source.why_not_kept is None:
        data = with_blocks_kept(source, finished, allow, xmp)
        if changed := changed_blocks(source, data, allow):
            raise RuntimeError(f"{changed} untouched JPEG blocks changed in exact mode; please report this")
        return EncodedPicture(data, "jpeg", "blocks", decoded_reach(source, allow))
    form: Literal["png", "webp"] = "webp" if settings.format == "webp" else "png"
    data = encode(finished, form, alpha=base.alpha, icc_profile=base.icc_profile, xmp=xmp)
    return EncodedPicture(data, form, "pixels", allow)
