import contextlib
import io
import struct
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines.errors import ImageError
from pipelines.pixels import images
from pipelines.pixels.headers import header, orientation
from pipelines.pixels.images import Picture, decode, encode, thumbnail
from pipelines.pixels.provenance import provenance_xmp

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)
GREY = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def refused(encoded, **limits):
    with pytest.raises(ImageError) as caught:
        decode(encoded, **limits)
    return caught.value.reason, str(caught.value)


def test_empty_file_is_not_an_image():
    reason, detail = refused(b"")

    assert reason == "not_an_image"
    assert detail == "the file is empty (0 bytes); expected a JPEG, PNG, WebP, TIFF, GIF or BMP picture"


@pytest.mark.parametrize(
    "text", [b"sku,price\n1,2\n", b"<!DOCTYPE html><html>404</html>", b"<!-- --><HTML><svg></svg></HTML>", b"\0" * 100]
)
def test_other_files_are_not_images_and_the_error_shows_their_beginning(text):
    reason, detail = refused(text)

    assert reason == "not_an_image"
    assert f"begins with {text[:16]!r}" in detail


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xef\xbb\xbf \n<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN'><SVG>", "an SVG drawing"),
        (b"<!-- --><!-- --><svg>", "an SVG drawing"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "a camera's raw picture"),
        (b"\0\0\1\0\1\0", "an icon file"),
        (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"<svg width='4'></svg>", "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "a HEIC picture"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF picture"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"8BPS\0\1", "a Photoshop document"),
    ],
)
def test_formats_that_are_not_read_are_named(head, name):
    reason, detail = refused(head)

    assert reason == "unsupported_format"
    assert detail.startswith(f"the file is {name}; expected a JPEG")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_file_that_ends_too_early_is_truncated(format, share):
    encoded = saved(Image.fromarray(RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)), format)
    cut = encoded[: int(len(encoded) * share)]

    reason, detail = refused(cut)

    assert reason == "truncated_image"
    assert f"the {format} file of {len(cut)} bytes ends too early or is damaged" in detail


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "CMYK"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_garbled_file_is_a_picture_or_a_reason(format, mode):
    rng = np.random.default_rng(1)
    try:
        encoded = saved(Image.fromarray(RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)).convert(mode), format)
    except (OSError, ValueError):
        pytest.skip(f"{format} holds no {mode}")
    for _ in range(150):
        garbled = bytearray(encoded)
        for place in rng.integers(2, min(len(encoded), 500), rng.integers(1, 8)):
            garbled[place] = rng.choice([0, 1, 255, rng.integers(256)])
        with contextlib.suppress(ImageError):
            decode(bytes(garbled), max_pixels=1_000_000, keep=False)


def test_nothing_but_the_magic_is_truncated():
    assert refused(b"\xff\xd8\xff")[0] == "truncated_image"
    assert refused(b"\x89PNG\r\n\x1a\n")[0] == "truncated_image"


def test_a_bug_of_our_own_is_no_fault_of_the_picture(monkeypatch):
    encoded = encode(RGB, "png")

    with pytest.raises(TypeError, match="not supported between"):
        decode(encoded, max_pixels="many", keep=False)
    # No picture is known that breaks the conversion, or it would be mended: so this bug has to be planted.
    monkeypatch.setattr(images, "planes", lambda image: None.colour)
    with pytest.raises(AttributeError, match="has no attribute 'colour'"):
        decode(encoded, keep=False)


def a_png_that_claims(width, height):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x\x9c") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_000, 10_000, 60_000])
def test_bomb_is_refused_by_its_header_and_without_a_warning(side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reason, detail = refused(a_png_that_claims(side, side), max_pixels=50_000_000)

    assert reason == "too_many_pixels"
    assert detail == f"the picture has {side} x {side} = {side * side} pixels; the limit is 50000000"


def test_limit_counts_pixels_and_holds_for_a_kept_picture_too():
    encoded = encode(RGB, "png")

    decode(encoded, max_pixels=35)

    assert refused(encoded, max_pixels=34) == (
        "too_many_pixels",
        "the picture has 7 x 5 = 35 pixels; the limit is 34",
    )


def test_decoding_48_megapixels_needs_a_few_times_their_weight(tmp_path):
    code = """
import resource, sys
from pipelines.pixels.images import decode
encoded = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert decode(encoded, keep=False).size_wh == (8000, 6000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    (tmp_path / "large.png").write_bytes(encode(np.zeros((6000, 8000, 3), np.uint8), "png"))

    told = subprocess.run([sys.executable, "-c", code, tmp_path / "large.png"], capture_output=True, check=True)

    in_bytes = int(told.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert in_bytes < 4 * 8000 * 6000 * 3  # Pillow's own copy has 4 bytes a pixel; two more are made of 3


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_formats_give_their_pixels(format):
    options = {"lossless": True} if format == "WEBP" else {}

    picture = decode(saved(Image.fromarray(RGB), format, **options))

    np.testing.assert_array_equal(picture.rgb, RGB)
    assert (picture.alpha, picture.icc_profile, picture.format, picture.size_wh) == (None, None, format, (7, 5))


def test_grey_becomes_three_equal_channels():
    np.testing.assert_array_equal(decode(saved(Image.fromarray(GREY), "PNG")).rgb, np.dstack([GREY] * 3))


def test_black_and_white_becomes_0_and_255():
    bits = GREY > 127

    np.testing.assert_array_equal(decode(saved(Image.fromarray(bits), "PNG")).rgb[..., 0], bits * np.uint8(255))


def test_grey_with_alpha_keeps_both():
    picture = decode(saved(Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), "PNG"))

    np.testing.assert_array_equal(picture.rgb, np.dstack([GREY] * 3))
    np.testing.assert_array_equal(picture.alpha, ALPHA)


def test_colours_under_transparent_pixels_are_kept():
    picture = decode(saved(Image.fromarray(np.dstack([RGB, ALPHA])), "PNG"))

    np.testing.assert_array_equal(picture.rgb, RGB)
    np.testing.assert_array_equal(picture.alpha, ALPHA)


def a_palette_image():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return image


def test_palette_gives_its_colours():
    picture = decode(saved(a_palette_image(), "PNG"))

    assert picture.rgb.tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert picture.alpha is None


@pytest.mark.parametrize(("format", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00"), ("GIF", 1)])
def test_transparency_of_a_palette_becomes_alpha(format, transparency):
    picture = decode(saved(a_palette_image(), format, transparency=transparency))

    assert picture.alpha.tolist() == [[255, 0]]
    assert picture.rgb[0, 0].tolist() == [10, 20, 30]


def test_transparent_colour_of_an_rgb_png_becomes_alpha():
    picture = decode(saved(Image.fromarray(RGB), "PNG", transparency=tuple(int(level) for level in RGB[0, 0])))

    assert picture.alpha[0, 0] == 0
    assert picture.alpha.sum() == 255 * 34


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_become_8(format):
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)

    assert decode(saved(Image.fromarray(deep), format)).rgb[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_32_bit_integers_count_as_16():
    deep = np.array([[-5, 0, 65535, 99999]], np.int32)

    assert decode(saved(Image.fromarray(deep), "TIFF")).rgb[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floats_count_by_their_largest_value(top):
    floats = np.array([[0, np.nan, top / 2, top]], np.float32)

    assert decode(saved(Image.fromarray(floats), "TIFF")).rgb[0, :, 0].tolist() == [0, 0, 128, 255]


def test_cmyk_without_a_profile_becomes_rgb():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))

    red = decode(saved(cmyk, "JPEG", quality=100)).rgb[4, 4]

    np.testing.assert_allclose(red, [255, 0, 0], atol=3)
    np.testing.assert_array_equal(decode(saved(cmyk, "TIFF")).rgb[4, 4], [255, 0, 0])


def a_profile(space, connection, tags):
    """A minimal ICC 2 profile: header, tag table, tags (ICC.1:2001-04, sections 6.1 and 6.2)."""
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + b"\0" * (-len(tag) % 4)
    white = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    header = struct.pack(">I", start + len(body)) + b"lcms\2\x20\0\0" + b"prtr" + space + connection + b"\0" * 12
    return (header + b"acsp" + b"\0" * 28 + white).ljust(128, b"\0") + table + body


def test_cmyk_goes_through_its_profile():
    corners = bytes([128, 128, 128, 0, 128, 128]) * 8  # without K any ink is Lab 50, 0, 0; K makes it black
    identity = struct.pack(">9i", *(65536 if cell % 4 == 0 else 0 for cell in range(9)))
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0\4\3\2\0" + identity + ramp * 4 + corners + ramp * 3
    profile = a_profile(b"CMYK", b"Lab ", {b"A2B0": table})

    picture = decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", icc_profile=profile))

    np.testing.assert_allclose(picture.rgb[4, 4], [119, 119, 119], atol=2)  # L* 50 is 119 in sRGB
    assert picture.icc_profile is None


def test_grey_goes_through_its_profile():
    linear = struct.pack(">4sIIH", b"curv", 0, 1, 0x0100)  # gamma 1.0
    profile = a_profile(b"GRAY", b"XYZ ", {b"kTRC": linear})

    picture = decode(saved(Image.new("L", (2, 2), 55), "PNG", icc_profile=profile))

    np.testing.assert_allclose(picture.rgb[0, 0], [128, 128, 128], atol=2)  # 55/255 of the light is 128 in sRGB
    assert picture.icc_profile is None


def test_cmyk_with_a_broken_profile_is_read_without_it():
    broken = SRGB[:16] + b"CMYK" + SRGB[20:]

    picture = decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", icc_profile=broken))

    np.testing.assert_array_equal(picture.rgb[4, 4], [255, 0, 0])
    assert picture.icc_profile is None


def test_colour_mode_without_a_way_to_rgb_is_unsupported():
    lab = Image.frombytes("LAB", (7, 5), RGB.tobytes())

    assert refused(saved(lab, "TIFF")) == (
        "unsupported_format",
        "the TIFF file has colour mode 'LAB'; expected RGB",
    )


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_rgb_profile_is_handed_on_and_changes_no_pixel(format):
    options = {"lossless": True} if format == "WEBP" else {}
    plain = decode(saved(Image.fromarray(RGB), format, **options))

    picture = decode(saved(Image.fromarray(RGB), format, icc_profile=SRGB, **options))

    assert picture.icc_profile == SRGB
    np.testing.assert_array_equal(picture.rgb, plain.rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_picture_is_turned_upright(orientation, format):
    # How a camera stores the upright picture: row 0 and column 0 of the file by the EXIF 2.32 standard, 4.6.4 A.
    stored = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: RGB.transpose(1, 0, 2)[::-1],
        7: RGB.transpose(1, 0, 2)[::-1, ::-1],
        8: RGB.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}

    picture = decode(saved(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif, **options))

    assert picture.size_wh == (7, 5)
    np.testing.assert_array_equal(picture.rgb, RGB)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_unreadable_exif_does_not_lose_the_picture():
    picture = decode(saved(Image.fromarray(RGB), "PNG", exif=b"Exif\0\0MM\0*garbage"))

    np.testing.assert_array_equal(picture.rgb, RGB)


def test_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]

    picture = decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    assert picture.rgb[0, 0].tolist() == [255, 0, 0]


def test_pixels_of_a_kept_picture_cannot_be_changed():
    encoded = encode(RGB, "png", alpha=ALPHA)

    picture = decode(encoded)

    assert decode(encoded) is picture
    with pytest.raises(ValueError, match="read-only"):
        picture.rgb[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        picture.alpha[0, 0] = 1


def test_recent_pictures_keep_to_their_weight():
    recent = images._Recent(limit_bytes=250)
    first, second, third, huge = (Picture(np.zeros((1, n, 3), np.uint8), None, None, "PNG") for n in (40, 40, 30, 99))

    recent.put(b"1", first)
    recent.put(b"2", second)
    recent.get(b"1")
    recent.put(b"3", third)
    recent.put(b"huge", huge)

    assert recent.get(b"1") is first
    assert recent.get(b"2") is None
    assert recent.get(b"3") is third
    assert recent.get(b"huge") is None
    assert recent.weight_bytes == 210


@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_file_gives_all_back(format):
    packet = provenance_xmp("Packshot", "a cup")

    encoded = encode(RGB, format, alpha=ALPHA, icc_profile=SRGB, xmp=packet)
    picture = decode(encoded)

    np.testing.assert_array_equal(picture.rgb, RGB)
    np.testing.assert_array_equal(picture.alpha, ALPHA)
    assert picture.icc_profile == SRGB
    assert packet in encoded
    assert encode(RGB, format, alpha=ALPHA, icc_profile=SRGB, xmp=packet) == encoded


def test_jpeg_keeps_full_colour_resolution_profile_and_packet():
    packet = provenance_xmp("Packshot", None)

    encoded = encode(RGB, "jpeg", icc_profile=SRGB, xmp=packet, quality=90)

    assert packet in encoded
    assert decode(encoded).icc_profile == SRGB
    assert [(part[1], part[2]) for part in Image.open(io.BytesIO(encoded)).layer] == [(1, 1)] * 3


@pytest.mark.parametrize(("format", "place"), [("png", "XML:com.adobe.xmp"), ("webp", "xmp"), ("jpeg", "xmp")])
def test_packet_lies_where_readers_look_and_names_the_source_type(format, place):
    encoded = encode(RGB, format, xmp=provenance_xmp("Packshot", "a cup"))

    root = ET.fromstring(Image.open(io.BytesIO(encoded)).info[place])

    assert root.find(f".//{IPTC}DigitalSourceType").text == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    )
    assert root.find(".//{http://ns.adobe.com/xap/1.0/}CreatorTool").text == "Packshot"


def test_header_tells_how_the_picture_lies_and_damage_is_an_error():
    exif = Image.Exif()
    exif[0x0112] = 6

    assert orientation(header(saved(Image.fromarray(RGB), "JPEG", exif=exif))) == 6
    assert orientation(header(encode(RGB, "png"))) == 1
    with pytest.raises(ImageError, match="the PNG file of 20 bytes has a damaged header"):
        header(encode(RGB, "png")[:20])


def test_files_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="JPEG holds no transparency"):
        encode(RGB, "jpeg", alpha=ALPHA)
    with pytest.raises(ValueError, match="the format is 'gif'; expected 'png', 'webp' or 'jpeg'"):
        encode(RGB, "gif")
    with pytest.raises(ValueError, match="WebP holds 16383 pixels a side; 16384 x 1 needs PNG"):
        encode(np.zeros((1, 16384, 3), np.uint8), "webp")


def test_packet_is_xml_whatever_the_prompt():
    wild = 'a <b>"cup" & saucer</b> ]]> \x00\x0b\ud800 Größe \U0001f3fa'

    root = ET.fromstring(provenance_xmp("R&D <tool>", wild).decode())

    assert root.find(f".//{IPTC}AIPromptInformation").text == (
        'a <b>"cup" & saucer</b> ]]> \ufffd\ufffd\ufffd Größe \U0001f3fa'
    )
    assert root.find(".//{http://ns.adobe.com/photoshop/1.0/}Credit").text == "R&D <tool>"


def test_packet_without_a_prompt_names_none():
    assert b"AIPromptInformation" not in provenance_xmp("Packshot", None)


def test_thumbnail_fits_and_never_enlarges():
    assert thumbnail(np.zeros((100, 50, 3), np.uint8), 20).shape == (20, 10, 3)
    assert thumbnail(np.zeros((1000, 1, 3), np.uint8), 20).shape == (20, 1, 3)
    np.testing.assert_array_equal(thumbnail(RGB, 7), RGB)


def test_a_picture_that_is_not_kept_takes_no_others_place(monkeypatch):
    recent = images._Recent(1000)
    monkeypatch.setattr(images, "_recent", recent)
    encoded = encode(RGB, "png")

    assert (decode(encoded, keep=False).rgb == RGB).all()
    assert not recent.pictures
    assert decode(encoded) is decode(encoded)
    assert len(recent.pictures) == 1
