import hashlib
import tracemalloc

import numpy as np
import pytest

from pipelines.pixels.composite import paste
from pipelines.pixels.images import decode, encode
from pipelines.pixels.proof import BAND_PIXELS, prove

RNG = np.random.default_rng(9)
SOURCE = RNG.integers(0, 256, (13, 17, 3)).astype(np.uint8)
PAINTED = RNG.integers(0, 256, (13, 17, 3)).astype(np.uint8)
ALLOW = np.zeros((13, 17), bool)
ALLOW[3:9, 4:11] = True


def test_without_an_outside_nothing_differs_and_the_hash_is_that_of_no_bytes():
    proof = prove(SOURCE, PAINTED, np.ones((13, 17), bool))

    assert (proof.changed_outside, proof.max_difference) == (0, 0)
    assert proof.outside_sha256 == hashlib.sha256(b"").hexdigest()


def test_pasted_picture_is_proved_on_its_decoded_file():
    delivered = decode(encode(paste(SOURCE, PAINTED, ALLOW, 3), "png")).rgb

    proof = prove(SOURCE, delivered, ALLOW)

    assert (proof.changed_outside, proof.max_difference) == (0, 0)
    assert proof.outside_sha256 == hashlib.sha256(SOURCE[~ALLOW].tobytes()).hexdigest()


def test_lossy_file_is_found_out():
    delivered = decode(encode(SOURCE, "jpeg")).rgb

    proof = prove(SOURCE, delivered, ALLOW)

    assert proof.changed_outside == (SOURCE[~ALLOW] != delivered[~ALLOW]).any(axis=1).sum() > 0
    assert proof.max_difference == np.abs(SOURCE[~ALLOW].astype(int) - delivered[~ALLOW]).max()
    assert proof.outside_sha256 == hashlib.sha256(delivered[~ALLOW].tobytes()).hexdigest()


def test_a_pixel_counts_once_and_a_difference_has_no_sign():
    delivered = SOURCE.copy()
    delivered[0, 0] = SOURCE[0, 0] ^ 1
    delivered[12, 16, 1] = 255 if SOURCE[12, 16, 1] < 128 else 0
    delivered[5, 5] = 255 - SOURCE[5, 5]

    proof = prove(SOURCE, delivered, ALLOW)

    assert proof.changed_outside == 2
    assert proof.max_difference == max(SOURCE[12, 16, 1], 255 - SOURCE[12, 16, 1])


def test_what_lies_inside_changes_no_proof():
    assert prove(SOURCE, PAINTED * ALLOW[..., None] + SOURCE * ~ALLOW[..., None], ALLOW) == prove(SOURCE, SOURCE, ALLOW)


def test_one_pixel_and_one_level_are_enough_to_be_seen():
    assert prove(np.uint8([[[7, 7, 7]]]), np.uint8([[[7, 7, 8]]]), np.array([[False]])).max_difference == 1


@pytest.mark.parametrize("base", [SOURCE[:5], SOURCE[..., 0]])
def test_shapes_that_differ_are_an_error(base):
    with pytest.raises(ValueError, match=r"has an allow mask of shape \(13, 17\); expected \(H, W, 3\) and \(H, W\)"):
        prove(base, SOURCE, ALLOW)


def test_memory_does_not_grow_with_the_picture():
    base = np.zeros((6000, 8000, 3), np.uint8)
    allow = np.zeros((6000, 8000), bool)
    allow[100:200] = True

    tracemalloc.start()
    proof = prove(base, base, allow)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert proof.changed_outside == 0
    assert peak < 40 * BAND_PIXELS  # 20 MB; the picture has 144
