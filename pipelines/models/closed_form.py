"""An alpha edge by closed-form matting, on pymatting (Levin, Lischinski, Weiss 2008; Germer et al. 2020).

pymatting compiles itself with numba when it is first imported on a machine (some 45 s of one core) and keeps the
result beside its files or in `NUMBA_CACHE_DIR`; from then on the import takes 2 s. So it is imported when the first
edge is asked for, and an image for workers should run `python -c "import pymatting"` once when it is built.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from pipelines.pixels.cutouts import SURE_INSIDE, UNKNOWN, Cutout, hard_cutout, trimap
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask, Window, diagonal_px, padded_window

BAND_FRACTION = 0.03  # how far the band reaches to each side of the outline, of the product's diagonal
MIN_BAND_PX, MAX_BAND_PX = 5, 32
TILE_PX = 256  # side of a tile without its margin
SMOOTHNESS = 1e-5
EDGE_SIGMA_PX = 0.6
PULL_AT_OUTLINE = 0.01
PULL_AT_BAND_END = 0.5
PULL_WITHOUT_CONTRAST = 10.0
FLAT_DEVIATION = 6 / 255
HAZE = 0.1
CONTEXT_PX = 8
TOLERANCE = 1e-4
MAX_ITERATIONS = 1000
_alone = threading.Lock()  # numba's parallel loops end the process where two threads meet in them


def closed_form_matting(rgb: Rgb, product: Mask, tile_px: int = TILE_PX) -> Cutout:
    """A Matting: alpha by a closed form with the mask as prior, colours by multi-level estimation.

    Only the band along the mask's outline is solved, tile by tile at the picture's own resolution: time grows with the
    outline's length, memory with one tile (some 400 bytes a pixel). Every unknown pixel is also pulled to the mask's
    own smoothed edge: weakly at the outline, more with distance from it, and firmly where the picture has no contrast.
    That makes every system solvable, keeps the mask's shape where the product has the colours of what is behind it,
    and lets colours decide elsewhere by how much the outline is off. The haze of a closed form, a tenth at both ends,
    is cut off. The same input gives the same cut-out.

    Args:
        rgb: the picture (H, W, 3).
        product: the mask (H, W), True on the product.
        tile_px: side of a tile without its margin.

    Returns:
        The cut-out (H, W) of the product; transparent for an empty mask, the whole picture for a full one.

    Raises:
        ValueError: the shapes differ.

    Source: the prior is that of closed_form_matting_with_prior (Marco Forte's closed-form-matting).
    """
    cutout = hard_cutout(rgb, product)
    if not product.any() or product.all():
        return cutout
    reach_px = band_px(product)
    for tile, inner in _tiles(padded_window(product, reach_px), product.shape, tile_px, 2 * reach_px + CONTEXT_PX):
        if product[tile].any() and not product[tile].all():
            soft = _soft(rgb[tile], product[tile], reach_px)
            cutout.rgb[tile][inner], cutout.alpha[tile][inner] = soft.rgb[inner], soft.alpha[inner]
    return cutout


def band_px(product: Mask) -> int:
    """How far the band of unknown pixels reaches to each side of a mask's outline, pixels."""
    return min(max(MIN_BAND_PX, round(BAND_FRACTION * diagonal_px(product))), MAX_BAND_PX)


def _soft(rgb: Rgb, product: Mask, band_px: int) -> Cutout:
    """The cut-out of one tile, which has both product and background."""
    import numba
    from pymatting import cf_laplacian, estimate_foreground_ml

    parts = trimap(product, band_px)
    colours = rgb / 255
    with _alone:
        numba.set_num_threads(1)  # more only wait for each other in so small a loop
        laplacian = cf_laplacian(colours, SMOOTHNESS, is_known=parts != UNKNOWN)
        alpha = _alpha(laplacian, parts, product, _pull(colours, product, band_px))
        unmixed = estimate_foreground_ml(colours, alpha)
    coverage = np.rint(255 * alpha).astype(np.uint8)
    near = (parts == UNKNOWN) | (coverage > 0)
    own = np.where(near[..., None], np.rint(255 * unmixed), 0).astype(np.uint8)
    return Cutout(np.where(coverage[..., None] == 255, rgb, own), coverage)


def _alpha(
    laplacian: sparse.csr_matrix, parts: NDArray[np.uint8], product: Mask, pull: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Alpha (h, w) in 0..1: what is known as it is, what is not by the closed form and the mask's own edge."""
    unknown = (parts == UNKNOWN).ravel()
    alpha = (parts == SURE_INSIDE).astype(np.float64).ravel()
    mask_edge = ndimage.gaussian_filter(product.astype(np.float64), EDGE_SIGMA_PX).ravel()[unknown]
    rows, drawn = laplacian[unknown], pull.ravel()[unknown]
    system = rows[:, unknown] + sparse.diags(drawn)
    wanted = drawn * mask_edge - rows[:, ~unknown] @ alpha[~unknown]
    solved, _ = cg(system, wanted, x0=mask_edge, rtol=TOLERANCE, maxiter=MAX_ITERATIONS)
    alpha[unknown] = np.clip((solved - HAZE) / (1 - 2 * HAZE), 0, 1)
    return np.asarray(alpha.reshape(parts.shape))


def _pull(colours: NDArray[np.float64], product: Mask, band_px: int) -> NDArray[np.float64]:
    """How strongly each pixel (h, w) is drawn to the mask's own edge."""
    to_outline_px = np.where(product, ndimage.distance_transform_edt(product), ndimage.distance_transform_edt(~product))
    around = 2 * band_px + 1, 2 * band_px + 1, 1
    mean, of_squares = (ndimage.uniform_filter(one, around, mode="nearest") for one in (colours, colours**2))
    variance = (of_squares - mean**2).mean(axis=2)
    by_depth = PULL_AT_OUTLINE + PULL_AT_BAND_END * (to_outline_px / band_px) ** 2
    return np.asarray(by_depth + PULL_WITHOUT_CONTRAST * np.exp(-variance / FLAT_DEVIATION**2))


def _tiles(within: Window, size_hw: tuple[int, ...], side_px: int, margin_px: int) -> Iterator[tuple[Window, Window]]:
    """Squares that cover a window, each with a margin within the picture, and where in it the square itself lies."""
    rows, columns = within
    for top in range(rows.start, rows.stop, side_px):
        down, inner_down = _with_margin(top, min(top + side_px, rows.stop), size_hw[0], margin_px)
        for left in range(columns.start, columns.stop, side_px):
            across, inner_across = _with_margin(left, min(left + side_px, columns.stop), size_hw[1], margin_px)
            yield (down, across), (inner_down, inner_across)


def _with_margin(first: int, last: int, size: int, margin_px: int) -> tuple[slice, slice]:
    start = max(0, first - margin_px)
    return slice(start, min(size, last + margin_px)), slice(first - start, last - start)
