import io
import tempfile
from concurrent.futures import ThreadPoolExecutor

import jpeglib
import numpy as np
import pytest
from PIL import Image, ImageCms
from scipy import ndimage

from pipelines.errors import ImageError
from pipelines.pixels.images import decode, encode
from pipelines.pixels.jpeg_blocks import LIBJPEG, changed_blocks, decoded_reach, read_source, with_blocks_kept
from pipelines.pixels.proof import prove
from pipelines.pixels.provenance import provenance_xmp

HEIGHT, WIDTH = 101, 150  # neither is a multiple of a block
RNG = np.random.default_rng(3)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (9, 13, 3)).astype(np.uint8)).resize((WIDTH, HEIGHT)))
PAINTED = np.asarray(Image.fromarray(RNG.integers(0, 256, (9, 13, 3)).astype(np.uint8)).resize((WIDTH, HEIGHT)))
ALLOW = np.zeros((HEIGHT, WIDTH), bool)
ALLOW[37:66, 43:92] = True
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def a_jpeg(rgb=SMOOTH, mode="RGB", format="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(rgb).convert(mode).save(file, format, **{"quality": 88, **options})
    return file.getvalue()


def written(tmp_path, space="JCS_YCbCr", factors=None, flags=()):
    """A JPEG of a kind that Pillow does not write."""
    ink = space == "JCS_YCCK"
    file = jpeglib.from_spatial(
        np.dstack([SMOOTH, SMOOTH[..., 0]]) if ink else SMOOTH, jpeglib.JCS_CMYK if ink else None
    )
    jpeglib.version.set(LIBJPEG)  # its first choice does not write arithmetic codes
    file.jpeg_color_space = jpeglib.Colorspace[space]
    file.samp_factor = factors
    file.write_spatial(str(tmp_path / "made.jpeg"), qt=88, flags=list(flags))
    return (tmp_path / "made.jpeg").read_bytes()


def why_not_kept(encoded):
    return read_source(encoded).why_not_kept


def finished_over(source, allow=ALLOW):
    return np.where(allow[..., None], PAINTED, decode(source).rgb)


def check_kept(source, allow=ALLOW):
    """Every block outside is the source's; beyond the reach no decoded pixel differs; the inside was painted."""
    assert why_not_kept(source) is None
    finished = finished_over(source, allow)

    delivered = with_blocks_kept(read_source(source), finished, allow)

    assert changed_blocks(read_source(source), delivered, allow) == 0
    before, after = decode(source).rgb, decode(delivered).rgb
    reach = decoded_reach(read_source(source), allow)
    assert reach[allow].all()
    assert prove(before, after, reach).changed_outside == 0
    return finished, after, reach


def test_empty_mask_keeps_every_block_and_every_pixel():
    source = a_jpeg()

    delivered = with_blocks_kept(read_source(source), PAINTED, np.zeros_like(ALLOW))

    assert changed_blocks(read_source(source), delivered, np.zeros_like(ALLOW)) == 0
    np.testing.assert_array_equal(decode(delivered).rgb, decode(source).rgb)
    assert not decoded_reach(read_source(source), np.zeros_like(ALLOW)).any()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_untouched_blocks_stay_whatever_the_subsampling(subsampling, progressive):
    finished, after, reach = check_kept(a_jpeg(subsampling=subsampling, progressive=progressive))

    inside = ndimage.binary_erosion(ALLOW, iterations=4)
    assert np.abs(finished[inside].astype(int) - after[inside]).mean() < 6  # as near as quality 88 comes
    side = 16 if subsampling else 8
    assert not (reach & ~ndimage.binary_dilation(ALLOW, iterations=side, structure=np.ones((3, 3)))).any()


@pytest.mark.parametrize("factors", ["4:1:1", "4:4:0"])
def test_rare_subsamplings_are_kept(tmp_path, factors):
    check_kept(written(tmp_path, factors=factors))


def test_arithmetic_coding_is_read(tmp_path):
    check_kept(written(tmp_path, flags=["ARITH_CODE"]))


def test_grey_stays_grey():
    source = a_jpeg(mode="L")

    _, after, _ = check_kept(source)

    assert (after == after[..., :1]).all()
    assert Image.open(io.BytesIO(with_blocks_kept(read_source(source), PAINTED, ALLOW))).mode == "L"


@pytest.mark.parametrize("edge", [np.s_[:3, :3], np.s_[-1:, -1:], np.s_[:, 149:], np.s_[100:], np.s_[:]])
def test_mask_may_touch_the_border_and_be_everything(edge):
    allow = np.zeros_like(ALLOW)
    allow[edge] = True

    check_kept(a_jpeg(subsampling=2), allow)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_lies_as_the_source_does(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = a_jpeg(exif=exif, subsampling=2)
    upright = decode(source).rgb
    allow = np.zeros(upright.shape[:2], bool)
    allow[60:90, 5:33] = True
    painted = np.where(allow[..., None], np.uint8([[[250, 20, 20]]]), upright)

    delivered = with_blocks_kept(read_source(source), painted, allow)

    after = decode(delivered).rgb
    assert Image.open(io.BytesIO(delivered)).getexif()[0x0112] == orientation
    assert changed_blocks(read_source(source), delivered, allow) == 0
    assert prove(upright, after, decoded_reach(read_source(source), allow)).changed_outside == 0
    np.testing.assert_allclose(after[70:80, 12:26].reshape(-1, 3).mean(axis=0), [250, 20, 20], atol=6)


def test_one_pixel_picture():
    source = a_jpeg(SMOOTH[:1, :1], subsampling=2)

    delivered = with_blocks_kept(read_source(source), np.uint8([[[255, 255, 255]]]), np.array([[True]]))

    np.testing.assert_allclose(decode(delivered).rgb, 255, atol=4)


def test_tables_subsampling_and_metadata_are_the_sources():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    source = a_jpeg(exif=exif, icc_profile=SRGB, comment=b"by hand", subsampling=1, dpi=(72, 72))

    delivered = with_blocks_kept(read_source(source), finished_over(source), ALLOW)

    before, after = (Image.open(io.BytesIO(encoded)) for encoded in (source, delivered))
    assert after.quantization == before.quantization
    assert after.layer == before.layer
    assert after.applist == before.applist
    for name in ("exif", "icc_profile", "comment", "dpi", "jfif_version"):
        assert after.info[name] == before.info[name]


def test_a_packet_takes_the_place_of_the_sources():
    source = a_jpeg(xmp=b"<old/>")
    packet = provenance_xmp("Packshot", None)

    with_new = with_blocks_kept(read_source(source), finished_over(source), ALLOW, xmp=packet)
    with_old = with_blocks_kept(read_source(source), finished_over(source), ALLOW)

    assert Image.open(io.BytesIO(with_new)).info["xmp"] == packet
    assert b"<old/>" not in with_new
    assert Image.open(io.BytesIO(with_old)).info["xmp"] == b"<old/>"


def test_packet_that_is_too_long_is_an_error():
    with pytest.raises(ValueError, match="an XMP packet of 65503 bytes; a JPEG holds 65502"):
        with_blocks_kept(read_source(a_jpeg()), SMOOTH, ALLOW, xmp=b" " * 65503)


def test_only_the_first_of_several_pictures_is_carried():
    source = a_jpeg(format="MPO", save_all=True, append_images=[Image.fromarray(PAINTED)])

    delivered = with_blocks_kept(read_source(source), finished_over(source), ALLOW)

    assert Image.open(io.BytesIO(source)).format == "MPO"
    assert Image.open(io.BytesIO(delivered)).format == "JPEG"
    assert changed_blocks(read_source(source), delivered, ALLOW) == 0


def test_a_picture_that_was_encoded_again_is_found_out():
    source = a_jpeg(subsampling=2)
    shifted = a_jpeg(np.roll(SMOOTH, 1, axis=1), subsampling=2)

    of_all = 13 * 19 + 2 * 7 * 10
    assert changed_blocks(read_source(source), encode(SMOOTH, "jpeg"), np.zeros_like(ALLOW)) == of_all
    assert 0 < changed_blocks(read_source(source), shifted, ALLOW) < of_all
    assert changed_blocks(read_source(source), shifted, np.ones_like(ALLOW)) == 0


def test_what_cannot_be_kept_is_told(tmp_path):
    linear = SRGB[:16] + b"GRAY" + SRGB[20:]

    assert why_not_kept(encode(SMOOTH, "png")) == "the source is a PNG file, not a JPEG"
    assert why_not_kept(a_jpeg(mode="CMYK")) == "the JPEG stores CMYK; only YCbCr and grey can be kept"
    assert why_not_kept(written(tmp_path, "JCS_YCCK")) == "the JPEG stores CMYK; only YCbCr and grey can be kept"
    by_letters = written(tmp_path, "JCS_RGB")
    by_adobe = by_letters.replace(b"R\x11\0G\x11\0B\x11\0", b"\1\x11\0\2\x11\0\3\x11\0").replace(
        b"\3R\0G\0B\0", b"\3\1\0\2\0\3\0"
    )
    np.testing.assert_array_equal(decode(by_adobe).rgb, decode(by_letters).rgb)
    for stores_rgb in (by_letters, by_adobe):
        assert why_not_kept(stores_rgb) == "the JPEG stores RGB; only YCbCr and grey can be kept"
    assert why_not_kept(a_jpeg(mode="L", icc_profile=linear)).startswith("the JPEG is grey with a profile of its own")
    assert why_not_kept(a_jpeg(icc_profile=SRGB * 5000)).endswith("metadata segments; up to 40 can be kept")
    with pytest.raises(ImageError, match="the file is empty"):
        why_not_kept(b"")


def test_threads_do_not_disturb_each_other():
    sources = [a_jpeg(comment=bytes([65 + number]) * 100 * number, subsampling=number % 3) for number in range(6)]

    def delivered(source):
        return with_blocks_kept(read_source(source), finished_over(source), ALLOW)

    alone = [delivered(source) for source in sources]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(delivered, sources))

    assert together == alone


def test_sizes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"shape \(101, 150\) for a JPEG that is stored with 75 x 50 pixels"):
        with_blocks_kept(read_source(a_jpeg(SMOOTH[:50, :75])), SMOOTH, ALLOW)


def garbled(encoded, seed):
    """The file cut short, or with some bytes that are others."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return encoded[: rng.integers(len(encoded) // 3, len(encoded))]
    changed = bytearray(encoded)
    for place in rng.integers(len(encoded) // 3, len(encoded), seed % 7 + 1):
        changed[place] = rng.integers(256)
    return bytes(changed)


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "arithmetic"])
def test_a_damaged_jpeg_that_still_decodes_is_kept_or_told_and_leaves_nothing_behind(tmp_path, monkeypatch, kind):
    source = {
        "baseline": lambda: a_jpeg(subsampling=2),
        "progressive": lambda: a_jpeg(progressive=True),
        "grey": lambda: a_jpeg(mode="L"),
        "arithmetic": lambda: written(tmp_path, flags=["ARITH_CODE"]),
    }[kind]()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))  # no argument tells jpeglib where to write
    kept = 0
    for seed in range(60):
        try:
            encoded = garbled(source, seed)
            finished = finished_over(encoded)
        except ImageError:
            continue
        if why_not_kept(encoded) is None:
            delivered = with_blocks_kept(read_source(encoded), finished, ALLOW)
            assert changed_blocks(read_source(encoded), delivered, ALLOW) == 0
            kept += 1

    assert kept
    assert list(scratch.iterdir()) == []


def test_jpeglib_that_fails_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = read_source(a_jpeg())
    twelve_bits = a_jpeg().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")

    for unreadable in (twelve_bits, a_jpeg()[:400]):
        with pytest.raises(OSError, match="failed"):
            changed_blocks(source, unreadable, ALLOW)

    assert list(tmp_path.iterdir()) == []


def test_coefficients_that_no_encoder_writes_are_told(tmp_path):
    jpeglib.version.set(LIBJPEG)
    (tmp_path / "a.jpeg").write_bytes(a_jpeg())
    file = jpeglib.read_dct(str(tmp_path / "a.jpeg"))
    file.Y[2, 3, 0, 1] = 1024
    file.write_dct(str(tmp_path / "b.jpeg"), flags=["ARITH_CODE"])  # which hold more than Huffman's do

    assert why_not_kept((tmp_path / "b.jpeg").read_bytes()).startswith("the JPEG is damaged: it has coefficients")


def test_one_reading_serves_every_variant():
    encoded = a_jpeg(subsampling=2)
    source, other = read_source(encoded), np.zeros_like(ALLOW)
    other[:20, 100:] = True

    several = [with_blocks_kept(source, finished_over(encoded, allow), allow) for allow in (ALLOW, other, ALLOW)]

    assert several[0] == several[2] == with_blocks_kept(read_source(encoded), finished_over(encoded), ALLOW)
    assert changed_blocks(source, several[1], other) == 0


def test_blocks_of_a_source_that_cannot_be_kept_are_not_given():
    source = read_source(encode(SMOOTH, "png"))

    with pytest.raises(ValueError, match="cannot be kept: the source is a PNG file, not a JPEG"):
        with_blocks_kept(source, SMOOTH, ALLOW)
