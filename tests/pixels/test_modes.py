"""Each colour mode that a catalogue holds, made by Pillow and by ImageMagick and compared with ImageMagick's colours.

ImageMagick (Debian's package imagemagick) is needed: its absence is a failure, not a reason to skip. One call makes
all of its files and one call reads them all, since starting it costs more than the work.
"""

import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from pipelines.errors import ImageError
from pipelines.pixels.images import decode, encode

WIDTH, HEIGHT = 24, 16
RNG = np.random.default_rng(1)


def smooth(shape, seed):
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, *shape)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


RGB = smooth((3,), 1)
ALPHA = smooth((), 2)
CMYK = np.dstack([smooth((3,), 3), smooth((), 4) // 2])
DEEP = (RGB.astype(int) * 257 + RNG.integers(-128, 129, RGB.shape)).clip(0, 65535).astype(np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def a_profile(space, connection, tags):
    """A minimal ICC 2 profile: header, tag table, tags (ICC.1:2001-04, sections 6.1, 6.2 and 6.4)."""
    white = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + b"\0" * 78,
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"cprt": b"text\0\0\0\0none\0",
        **tags,
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + b"\0" * (-len(tag) % 4)
    head = struct.pack(">I", start + len(body)) + b"lcms\2\x20\0\0" + b"prtr" + space + connection + b"\0" * 12
    return (head + b"acsp" + b"\0" * 28 + white).ljust(128, b"\0") + table + body


def a_press_profile():
    """CMYK inks on a warm paper, black that is not quite black: far enough from the plain formula to be told apart."""
    side = 9
    inks = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    seen = np.rint(255 * (1 - inks[:, :3]) * (1 - 0.8 * inks[:, 3:]) * [1, 0.95, 0.9]).astype(np.uint8)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    in_lab = ImageCms.profileToProfile(Image.fromarray(seen[None]), srgb, lab, outputMode="LAB")
    cells = np.frombuffer(in_lab.tobytes(), np.uint8).reshape(-1, 3) ^ np.uint8([0, 128, 128])  # ICC's a and b + 128
    ramp, identity = bytes(range(256)), struct.pack(">9i", *(65536 if cell % 4 == 0 else 0 for cell in range(9)))
    table = b"mft1\0\0\0\0\4\3" + bytes([side, 0]) + identity + ramp * 4 + cells.tobytes() + ramp * 3
    return a_profile(b"CMYK", b"Lab ", {b"A2B0": table})


def a_wide_profile():
    """RGB with Adobe RGB's primaries (D50) and gamma 2.2: the numbers mean other colours than in sRGB."""

    def primary(*xyz):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in xyz))

    gamma = struct.pack(">4sIIH", b"curv", 0, 1, 0x0233)
    primaries = {
        b"rXYZ": (0.6097, 0.3111, 0.0195),
        b"gXYZ": (0.2053, 0.6257, 0.0609),
        b"bXYZ": (0.1492, 0.0632, 0.7446),
    }
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma)
    return a_profile(b"RGB ", b"XYZ ", {name: primary(*xyz) for name, xyz in primaries.items()} | curves)


GREY_PROFILE = a_profile(b"GRAY", b"XYZ ", {b"kTRC": struct.pack(">4sIIH", b"curv", 0, 1, 0x0180)})  # gamma 1.5
PRESS_PROFILE = a_press_profile()
WIDE_PROFILE = a_wide_profile()

# What ImageMagick does to a 16-bit RGB or RGBA picture before it writes the file of that name.
GREY = "-colorspace Gray"
MADE_BY_MAGICK = {
    "deep.png": "rgb",
    "deep-interlaced.png": "rgb -interlace PNG",
    "deep-alpha.png": "rgba",
    "deep.tif": "rgb -compress None",
    "deep-msb.tif": "rgb -compress None -endian MSB",
    "deep-lsb.tif": "rgb -compress None -endian LSB",
    "deep-lzw.tif": "rgb -compress LZW",
    "deep-alpha.tif": "rgba -compress Zip",
    "deep-cmyk.tif": "rgb -colorspace CMYK",
    "deep-grey.png": f"rgb {GREY}",
    "deep-grey-alpha.png": f"rgba {GREY}",
    "deep-grey.tif": f"rgb {GREY}",
    "deep-grey-white-is-0.tif": f"rgb {GREY} -define quantum:polarity=min-is-white",
    "grey-12-bits.tif": f"rgb {GREY} -depth 12",
    "grey-32-bits.tif": f"rgb {GREY} -depth 32",
    "grey.png": f"rgb {GREY} -depth 8",
    "grey.jpg": f"rgb {GREY}",
    "grey-white-is-0.tif": f"rgb {GREY} -depth 8 -define quantum:polarity=min-is-white",
    "grey-2-bits.png": f"rgb {GREY} -depth 2",
    "grey-4-bits.tif": f"rgb {GREY} -depth 4",
    "grey-alpha.png": f"rgba {GREY} -depth 8",
    "grey-alpha.tif": f"rgba {GREY} -depth 8",
    "bits.png": "rgb -monochrome",
    "bits.gif": "rgb -monochrome",
    "bits.bmp": "rgb -monochrome",
    "bits-fax.tif": "rgb -monochrome -compress Group4",
    "palette.png": "rgb -depth 8 -colors 20 -define png:color-type=3",
    "palette-4-bits.png": "rgb -depth 8 -colors 9 -define png:color-type=3 -define png:bit-depth=4",
    "palette-alpha.png": "rgba -depth 8 -colors 12 -define png:color-type=3",
    "palette.tif": "rgb -depth 8 -colors 20 -type Palette",
    "palette.bmp": "rgb -depth 8 -colors 20",
    "palette.gif": "rgb",
    "palette-alpha.gif": "rgba",
    "alpha.tif": "rgba -depth 8",
    "alpha-premultiplied.tif": "rgba -depth 8 -define tiff:alpha=associated",
    "alpha.webp": "rgba -depth 8 -define webp:lossless=true -define webp:exact=true",
    "alpha-lossy.webp": "rgba -depth 8 -quality 90",
    "alpha.bmp": "rgba -depth 8",
    "cmyk.jpg": "rgb -depth 8 -colorspace CMYK -quality 98",
    "cmyk.tif": "rgb -depth 8 -colorspace CMYK",
    "baseline.jpg": "rgb -depth 8",
    "progressive.jpg": "rgb -depth 8 -interlace JPEG -sampling-factor 2x2",
    "subsampled-411.jpg": "rgb -depth 8 -sampling-factor 4x1",
    "planes.tif": "rgb -depth 8 -interlace plane",
    "tiles.tif": "rgb -depth 8 -define tiff:tile-geometry=16x16",
    "jpeg-inside.tif": "rgb -depth 8 -compress JPEG",
    "frames.gif": "rgb -depth 8 ( -clone 0 -negate ) -set delay 10",
    "frame-with-an-offset.gif": "-size 10x6 xc:red -repage 24x16+5+4",
    "cmyk-profile.jpg": "rgb -depth 8 -colorspace CMYK -quality 98 -profile press.icc",
    "cmyk-profile.tif": "rgb -depth 8 -colorspace CMYK -profile press.icc",
    "grey-profile.png": f"rgb {GREY} -depth 8 -profile grey.icc",
    "grey-profile-alpha.png": f"rgba {GREY} -depth 8 -profile grey.icc",
    "grey-profile-deep.png": f"rgb {GREY} -profile grey.icc",
    "grey-profile-deep-alpha.png": f"rgba {GREY} -profile grey.icc",
    "grey-profile.jpg": f"rgb {GREY} -profile grey.icc",
    "wide-profile.jpg": "rgb -depth 8 -quality 98 -profile wide.icc",
    "wide-profile.png": "rgb -depth 8 -profile wide.icc",
    "wide-profile-deep.tif": "rgb -profile wide.icc",
    "linear.png": "rgb -colorspace RGB -depth 8",
    "turned-2.tif": "rgb -depth 8 -orient TopRight",
    "turned-5.tif": "rgb -depth 8 -orient LeftTop",
    "turned-6-deep.tif": "rgb -orient RightTop",
    "turned-6-deep-grey.tif": f"rgb {GREY} -orient RightTop",
    "turned-7-alpha.tif": "rgba -depth 8 -orient RightBottom",
    "turned-8-cmyk.tif": "rgb -depth 8 -colorspace CMYK -orient LeftBottom",
}
REFUSED = {  # and what is said of it
    "deep-planes.tif": ("rgb -interlace plane", "the TIFF file keeps 16-bit colours in separate planes; interleave"),
    "deep-planes-zip.tif": ("rgb -interlace plane -compress Zip", "the TIFF file keeps 16-bit colours in separate"),
    "deep-grey-alpha.tif": (f"rgba {GREY}", "the TIFF file holds pixels of a form that is not read"),
    "12-bits.tif": ("rgb -depth 12", "the TIFF file holds pixels of a form that is not read (unknown pixel mode)"),
    "32-bits.tif": ("rgb -depth 32", "the TIFF file holds pixels of a form that is not read"),
    "cmyk-alpha.tif": ("rgba -colorspace CMYK", "the TIFF file holds pixels of a form that is not read"),
    "lab.tif": ("rgb -depth 8 -colorspace Lab", "the TIFF file has colour mode 'LAB'; expected RGB"),
}


def turned(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


MADE_BY_PILLOW = {
    "p-cmyk.jpg": (Image.fromarray(CMYK, "CMYK"), {"quality": 97}),
    "p-cmyk.tif": (Image.fromarray(CMYK, "CMYK"), {}),
    "p-cmyk-profile.jpg": (Image.fromarray(CMYK, "CMYK"), {"quality": 97, "icc_profile": PRESS_PROFILE}),
    "p-cmyk-profile.tif": (Image.fromarray(CMYK, "CMYK"), {"icc_profile": PRESS_PROFILE}),
    "p-clear-grey.png": (Image.fromarray(RGB[..., 0]), {"transparency": int(RGB[3, 3, 0])}),
    "p-clear-deep-grey.png": (Image.fromarray(DEEP[..., 0]), {"transparency": int(DEEP[3, 3, 0])}),
    "p-clear-bits.png": (Image.fromarray(ALPHA > 127), {"transparency": 0}),
    "p-frames.webp": (
        Image.fromarray(np.dstack([RGB, ALPHA])),
        {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])], "lossless": True, "exact": True},
    ),
    "p-frames.png": (Image.fromarray(RGB), {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]}),
    "p-one-pixel.png": (Image.fromarray(RGB[:1, :1]), {}),
    **{
        f"p-turned-{number}.jpg": (Image.fromarray(RGB), {"quality": 97, "exif": turned(number)})
        for number in range(1, 9)
    },
}
# Levels by which the two may differ: rounding of formulas, and what a colour table of 9 points in 8 bits leaves open.
TOLERANCE = {
    **dict.fromkeys(("deep-cmyk.tif", "cmyk.jpg", "cmyk.tif", "turned-8-cmyk.tif"), 1),
    **dict.fromkeys(("palette.tif", "alpha-premultiplied.tif"), 1),
    **dict.fromkeys([name for name in MADE_BY_MAGICK if name.startswith("grey-profile")], 2),
    **{"cmyk-profile.tif": 2, "cmyk-profile.jpg": 3, "p-cmyk-profile.tif": 4, "p-cmyk-profile.jpg": 6},
    "linear.png": 1,
}


def a_deep_png(deep, clear=None):
    """16 bits RGB, (H, W, 3); Pillow writes none. clear: the colour that is transparent."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", deep.shape[1], deep.shape[0], 16, 2, 0, 0, 0))]
    parts += [] if clear is None else [(b"tRNS", np.asarray(clear, ">u2").tobytes())]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts)


def magick(folder, *arguments):
    try:
        # The option keeps what one bracket sets from the next.
        subprocess.run(
            ["convert", "-respect-parenthesis", *arguments, "null:"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=300,
        )
    except FileNotFoundError:
        pytest.fail("ImageMagick's `convert` is missing; install the Debian package imagemagick (.ci/apt.txt)")
    except subprocess.CalledProcessError as error:
        pytest.fail(f"convert failed: {error.stderr.decode(errors='replace')[-500:]}")


def expectation(name):
    """How ImageMagick is to read a file: upright, profiles of ink and grey carried out, an RGB profile left alone."""
    through = ["-profile", "srgb.icc"] if "cmyk-profile" in name or "grey-profile" in name else []
    whole = ["-coalesce"] if "offset" in name else []
    upright = ["-auto-orient", *through, "-colorspace", "sRGB", "-alpha", "set", "-depth", "16", "-endian", "MSB"]
    return ["(", f"{name}[0]", *whole, *upright, "-write", f"rgba:{name}.raw", ")"]


NAMES = [*MADE_BY_MAGICK, *MADE_BY_PILLOW, "p-clear-deep.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every file of the tables, and beside it ImageMagick's reading of it, 16 bits RGBA."""
    folder = tmp_path_factory.mktemp("modes")
    for name, profile in {"srgb": SRGB, "press": PRESS_PROFILE, "grey": GREY_PROFILE, "wide": WIDE_PROFILE}.items():
        (folder / f"{name}.icc").write_bytes(profile)
    (folder / "rgb.raw").write_bytes(DEEP.astype(">u2").tobytes())
    (folder / "rgba.raw").write_bytes(np.dstack([DEEP, ALPHA.astype(np.uint16) * 257]).astype(">u2").tobytes())
    sources = {
        kind: ["-size", f"{WIDTH}x{HEIGHT}", "-depth", "16", "-endian", "MSB", f"{kind}:{kind}.raw", "+endian"]
        for kind in ("rgb", "rgba")
    }
    making = []
    for name, words in (MADE_BY_MAGICK | {name: words for name, (words, _) in REFUSED.items()}).items():
        first, *rest = words.split()
        making += ["(", *sources.get(first, [first]), *rest, "-write", name, ")"]
    magick(folder, *making)
    for name, (image, options) in MADE_BY_PILLOW.items():
        image.save(folder / name, **options)
    (folder / "p-clear-deep.png").write_bytes(a_deep_png(DEEP, clear=DEEP[3, 3]))
    magick(folder, *(word for name in NAMES for word in expectation(name)))
    return folder


def through_magick(folder, name, shape):
    levels = np.fromfile(folder / f"{name}.raw", ">u2")
    return np.rint(levels.reshape(*shape, 4) / 257).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_colours_alpha_and_size_are_what_imagemagick_reads(folder, name):
    picture = decode((folder / name).read_bytes(), keep=False)

    expected = through_magick(folder, name, picture.rgb.shape[:2])
    alpha = np.full(expected.shape[:2], 255, np.uint8) if picture.alpha is None else picture.alpha
    np.testing.assert_array_equal(alpha, expected[..., 3])
    difference = np.abs(picture.rgb.astype(int) - expected[..., :3])[alpha > 0]
    assert difference.max() <= TOLERANCE.get(name, 0)
    assert expected[..., :3].std() > 20 or "one-pixel" in name or "offset" in name  # a picture that could tell


@pytest.mark.parametrize("name", REFUSED)
def test_form_that_is_not_read_is_refused_with_a_reason(folder, name):
    with pytest.raises(ImageError) as caught:
        decode((folder / name).read_bytes(), keep=False)

    assert caught.value.reason == "unsupported_format"
    assert str(caught.value).startswith(REFUSED[name][1])


def test_12_bit_jpeg_is_refused_with_a_reason():
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG")
    deep = file.getvalue().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")

    with pytest.raises(ImageError, match=r"form that is not read \(cannot handle 12-bit layers\)") as caught:
        decode(deep, keep=False)

    assert caught.value.reason == "unsupported_format"


def test_every_16_bit_level_goes_to_the_nearest():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)

    picture = decode(a_deep_png(np.dstack([levels, levels[::-1], levels.T])), keep=False)

    expected = np.rint(levels / 257).astype(np.uint8)
    np.testing.assert_array_equal(picture.rgb, np.dstack([expected, expected[::-1], expected.T]))


@pytest.mark.parametrize(
    ("name", "rounding"), [("wide-profile.jpg", 0), ("wide-profile.png", 0), ("wide-profile-deep.tif", 5)]
)
def test_rgb_profile_is_kept_and_colours_are_converted_by_nobody(folder, name, rounding):
    picture = decode((folder / name).read_bytes(), keep=False)
    (folder / "delivered.png").write_bytes(encode(picture.rgb, "png", icc_profile=picture.icc_profile))

    to_srgb = "-profile srgb.icc -depth 8 -write"
    magick(folder, *f"( {name} {to_srgb} rgb:source.raw ) ( delivered.png {to_srgb} rgb:delivered.raw )".split())

    assert picture.icc_profile == WIDE_PROFILE
    source, delivered = (np.fromfile(folder / raw, np.uint8).astype(int) for raw in ("source.raw", "delivered.raw"))
    assert np.abs(source - delivered).max() <= rounding
    assert np.abs(delivered - picture.rgb.ravel()).max() > 20  # the profile says something


@pytest.mark.parametrize("name", ["cmyk-profile.jpg", "grey-profile.png", "grey-profile-deep-alpha.png"])
def test_profile_that_was_carried_out_is_not_handed_on(folder, name):
    assert decode((folder / name).read_bytes(), keep=False).icc_profile is None


@pytest.mark.parametrize("format", ["png", "webp"])
@pytest.mark.parametrize(
    "name", ["alpha.tif", "palette-alpha.gif", "grey-alpha.png", "deep-alpha.png", "p-clear-deep.png"]
)
def test_alpha_is_kept_in_the_delivered_file(folder, name, format):
    picture = decode((folder / name).read_bytes(), keep=False)

    delivered = decode(encode(picture.rgb, format, alpha=picture.alpha), keep=False)

    assert picture.alpha.min() < 255
    np.testing.assert_array_equal(delivered.alpha, picture.alpha)
    np.testing.assert_array_equal(delivered.rgb, picture.rgb)


def a_png_of_gamma(gamma, **options):
    notes, file = PngImagePlugin.PngInfo(), io.BytesIO()
    notes.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    Image.fromarray(RGB).save(file, "PNG", pnginfo=notes, **options)
    return file.getvalue()


def test_gamma_of_a_png_is_evened_out_unless_a_profile_holds():
    old_mac, plain = decode(a_png_of_gamma(1 / 1.8)), decode(a_png_of_gamma(1 / 2.2))

    mid_grey = old_mac.rgb[RGB == 128]
    assert set(mid_grey.tolist()) <= {146}  # 128 / 255 to the power of 1.8 is 0.289 of the light: 146 in sRGB
    assert (old_mac.rgb.astype(int) - RGB)[(RGB > 30) & (RGB < 225)].min() > 5
    np.testing.assert_array_equal(plain.rgb, RGB)
    np.testing.assert_array_equal(decode(a_png_of_gamma(1 / 1.8, icc_profile=SRGB)).rgb, RGB)
