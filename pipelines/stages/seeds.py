"""Where the noise comes from: the same file, seed and variant give the same number everywhere."""

from __future__ import annotations

import hashlib
import json


def seed_for(seed_basis: str, seed: int, variant: int) -> int:
    """The seed of one variant: the first 63 bits of the sha256 of basis, seed and variant.

    Args:
        seed_basis: the source's sha256, or a column's value such as a SKU; any text, also an empty one.
        seed: the recipe's `paint.seed`.
        variant: counted from 0.

    Returns:
        0 to 2**63 - 1.
    """
    return _first_63_bits("variant", seed_basis, int(seed), int(variant))


def seeds_for(seed_basis: str, seed: int, variants: int) -> list[int]:
    """The seeds of the first `variants` variants; more variants leave the seeds of the first ones alone."""
    return [seed_for(seed_basis, seed, variant) for variant in range(variants)]


def region_seed(seed: int, region: int) -> int:
    """The seed of one region of a variant: region 0 keeps the variant's own, others are derived from it.

    An item with one region can thus be painted again by its recorded seed alone.
    """
    return seed if region == 0 else _first_63_bits("region", int(seed), int(region))


def _first_63_bits(*named: str | int) -> int:
    # JSON quotes its strings, so that ("a", 11, 2) and ("a1", 1, 2) never read alike.
    digest = hashlib.sha256(json.dumps(named, separators=(",", ":")).encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # fits the manifest's signed 64-bit column
