"""Every depth and mode, orientation, transparency and proportions."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.data.images import Form, Scale, read
from orchestrator.errors import InputError

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
"""Values of an image, from black to white."""


def png(pixels: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits, which Pillow writes in grey only."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(pixels: np.ndarray, compressed: bool) -> bytes:
    """A TIFF of 16 bits in colour, likewise."""
    height, width, bands = pixels.shape
    data = pixels.astype("<u2").tobytes()
    data = zlib.compress(data) if compressed else data
    depth = struct.pack(f"<{bands}H", *[16] * bands)
    tags = [(256, width), (257, height), (258, 8 + len(data)), (259, 8 if compressed else 1), (262, 2)]
    tags += [(273, 8), (277, bands), (278, height), (279, len(data))]
    body = b"".join(struct.pack("<HHII", tag, 3 if tag == 258 else 4, bands if tag == 258 else 1, value) for tag, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data) + len(depth)) + data + depth + struct.pack("<H", 9) + body + b"\0" * 4


def colours(top: int) -> np.ndarray:
    return np.repeat(np.rint(RAMP * top)[..., None], 3, axis=-1)


def grey16(top: int, dtype: str = "u2") -> Callable[[Path], None]:
    return lambda path: Image.fromarray(np.rint(RAMP * top).astype(dtype)).save(path)


def floats(low: float, high: float) -> Callable[[Path], None]:
    return lambda path: Image.fromarray((low + RAMP * (high - low)).astype(np.float32)).save(path)


def eight(mode: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        Image.fromarray(np.rint(RAMP * 255).astype(np.uint8)).convert("RGB").convert(mode, palette=Image.Palette.ADAPTIVE).save(
            path
        )

    return save


@pytest.mark.parametrize(
    ("name", "save"),
    [
        *((f"{mode}.png", eight(mode)) for mode in ("L", "LA", "RGB", "RGBA", "P")),
        ("cmyk.jpg", eight("CMYK")),
        ("luminance.tif", eight("YCbCr")),
        ("grey.webp", eight("RGB")),
        ("grey.gif", eight("L")),
        ("8-in-16.png", grey16(255)),
        ("10-in-16.png", grey16(1023)),
        ("12-in-16.png", grey16(4095)),
        ("16.png", grey16(65535)),
        ("16.tif", grey16(65535)),
        ("32.tif", grey16(100_000, "i4")),
        ("12.pgm", lambda p: p.write_bytes(b"P5 8 8 4095\n" + np.rint(RAMP * 4095).astype(">u2").tobytes())),
        ("12.ppm", lambda p: p.write_bytes(b"P6 8 8 4095\n" + colours(4095).astype(">u2").tobytes())),
        ("float-1.tif", floats(0, 1)),
        ("float-255.tif", floats(0, 255)),
        ("float-negative.tif", floats(-1000, 3000)),
        ("float-small.tif", floats(0, 0.01)),
        ("colour-16.png", lambda p: p.write_bytes(png(colours(65535), 2))),
        ("colour-12-in-16.png", lambda p: p.write_bytes(png(colours(4095), 2))),
        ("alpha-16.png", lambda p: p.write_bytes(png(np.dstack([colours(4095), np.full((8, 8), 65535)]), 6))),
        ("colour-12-in-16.tif", lambda p: p.write_bytes(tiff(colours(4095), False))),
        ("colour-12-deflated.tif", lambda p: p.write_bytes(tiff(colours(4095), True))),
    ],
)
def test_every_depth_keeps_its_differences(tmp_path: Path, name: str, save: Callable[[Path], Any]) -> None:
    """The ramp from black to white of each depth is that of 8 bits; up to the losses of a format."""
    save(tmp_path / name)
    for channels in (1, 3):
        pixels, notes, _ = read([tmp_path / name], Form(8, channels=channels))  # type: ignore[arg-type]
        assert pixels.shape == (1, channels, 8, 8) and pixels.dtype == np.uint8
        loss = 16 if name.endswith((".jpg", ".webp")) else 2 if name == "luminance.tif" else 1
        # 100,000 takes 17 bits, so it is no white.
        expected = RAMP * 255 * (100_000 / 131_071 if name == "32.tif" else 1)
        assert np.abs(pixels[0].astype(float) - expected).max() <= loss, notes


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 0.5).save(tmp_path / "1.png")
    assert np.array_equal(read([tmp_path / "1.png"], Form(8))[0][0, 0] == 255, RAMP > 0.5)


def test_deep_images_share_one_scale(tmp_path: Path) -> None:
    """A dark exposure stays darker than a bright one: the scale is that of all images, not of each."""
    for name, top in (("dark.png", 400), ("bright.png", 4000)):
        grey16(top)(tmp_path / name)
    pixels, notes, _ = read([tmp_path / "dark.png", tmp_path / "bright.png"], Form(8))
    assert pixels[0].max() == round(400 / 4095 * 255) and pixels[1].max() == round(4000 / 4095 * 255)
    assert notes["scaling"] == "integers: 0 to 4095 becomes 0 to 255, in all images alike" and notes["modes"] == "2 I;16"


@pytest.mark.parametrize(
    ("low", "high", "are_floats", "scale"),
    [
        (0, 200, False, (0, 255)),
        (5, 3900, False, (0, 4095)),
        (0, 5000, False, (0, 8191)),
        (0, 40000, False, (0, 65535)),
        (-1024, 3000, False, (-1024, 3000)),
        (0.1, 0.9, True, (0, 1)),
        (0.0, 0.2, True, (0, 0.2)),
        (0, 250, True, (0, 255)),
        (-2.1, 2.6, True, (-2.1, 2.6)),
        (0, 7.0, True, (0, 7)),
    ],
)
def test_the_rule_of_scales(low: float, high: float, are_floats: bool, scale: tuple[float, float]) -> None:
    assert Scale.of(low, high, floats=are_floats) == Scale(*map(float, scale))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("L", (8, 4))
    upright.paste(255, (0, 0, 4, 2))  # bright in the upper left
    undo = {2: 0, 3: 1, 4: 2, 5: 5, 6: 3, 7: 6, 8: 4}  # Pillow's transpositions, in its order
    methods = [
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
    ]
    stored = upright.transpose(methods[undo[orientation]]) if orientation > 1 else upright
    note = Image.Exif()
    note[0x0112] = orientation
    for suffix in ("png", "tif", "webp"):
        stored.save(tmp_path / f"1.{suffix}", exif=note, **({"lossless": True} if suffix == "webp" else {}))
        pixels, notes, _ = read([tmp_path / f"1.{suffix}"], Form(None, channels=1))
        assert np.array_equal(pixels[0, 0], np.asarray(upright)), suffix
        assert notes["sizes"] == "8x4"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "16"])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:, :4, 3] = 255  # black on the left, nothing on the right
    path = tmp_path / "1.png"
    if mode == "16":
        path.write_bytes(png(pixels.astype(np.uint16) * 257, 6))
    elif mode == "P":
        palette = Image.fromarray((pixels[..., 3] == 0).astype(np.uint8), mode="P")
        palette.putpalette([0, 0, 0, 0, 0, 0])
        palette.save(path, transparency=1)
    else:
        Image.fromarray(pixels).convert(mode).save(path)
    for background, seen in {"white": (255, 255, 255), "#800000": (128, 0, 0)}.items():
        read_pixels = read([path], Form(8, channels=3, background=background))[0]
        assert not read_pixels[0, :, :, :4].any() and read_pixels[0, :, 0, 7].tolist() == list(seen)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("fit", "columns"), [("squash", [0, 32, 223, 255]), ("crop", [0, 0, 255, 255]), ("letterbox", None)])
def test_images_that_are_not_square(tmp_path: Path, fit: Any, columns: list[int] | None, deep: bool) -> None:
    pixels = np.zeros((4, 8), dtype=np.uint8)
    pixels[:, 4:] = 255
    pixels[:, 0] = 255 if fit == "crop" else 0  # cut off
    Image.fromarray(pixels.astype(np.uint16) * 257 if deep else pixels).save(tmp_path / "1.png")
    shown, notes, _ = read([tmp_path / "1.png"], Form(4, fit=fit, channels=1, background="#404040"))
    assert "not square" in notes["sizes"]
    if columns is None:
        assert shown[0, 0, :, 0].tolist() == [64, 0, 0, 64] and shown[0, 0, :, 3].tolist() == [64, 255, 255, 64]
    else:
        assert shown[0, 0, 1].tolist() == columns


def truncated(suffix: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return save


def float_tiff() -> bytes:
    """A TIFF of 2x2 pixels in colours of 32-bit floating-point numbers, which Pillow cannot write either."""
    pixels, after = np.ones((2, 2, 3), dtype="<f4").tobytes(), 8 + 48
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3)]
    tags += [(278, 3, 1, 2), (279, 4, 1, 48), (339, 3, 3, after + 6)]
    listed = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, after + 12) + pixels + struct.pack("<6H", 32, 32, 32, 3, 3, 3) + listed


@pytest.mark.parametrize(
    ("name", "save", "message"),
    [
        *((f"cut.{s}", truncated(s), "not a readable image") for s in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm")),
        ("empty.png", lambda p: p.write_bytes(b""), "not a readable image"),
        ("page.jpg", lambda p: p.write_bytes(b"<html>404</html>"), "not a readable image"),
        ("script.png", lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"), "not a readable image"),
        ("bomb.png", lambda p: Image.new("1", (20_000, 5_000)).save(p), "too many pixels"),
        ("grey-alpha-16.png", lambda p: p.write_bytes(png(colours(65535)[..., :2], 4)), "16 bits is not supported"),
        (
            "colours.tif",
            lambda p: p.write_bytes(float_tiff()),
            "a TIFF of 3 floating-point numbers of 32 bits a pixel.*save it",
        ),
        ("nan.tif", lambda p: Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(p), "NaN or infinite"),
    ],
)
def test_files_that_are_refused_by_name(tmp_path: Path, name: str, save: Callable[[Path], Any], message: str) -> None:
    save(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        read([tmp_path / name], Form(8))


def test_grey_or_colour_by_a_key(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("L", (8, 8), 9).save(tmp_path / "grey.png")
    red, grey = tmp_path / "red.png", tmp_path / "grey.png"
    assert read([red], Form(8, channels=1))[0][0].max() == 76
    assert read([grey], Form(8))[0].shape[1] == 1 and read([grey, red], Form(8))[0].shape[1] == 3


def test_a_damaged_orientation_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), (9, 9, 9)).save(tmp_path / "1.jpg", exif=b"Exif\0\0not a note at all")
    assert read([tmp_path / "1.jpg"], Form())[0].shape == (1, 3, 4, 8)


@pytest.mark.parametrize(("keywords", "message"), [({"size": 0}, "data.size = 0"), ({"background": "blurple"}, "is no colour")])
def test_forms_that_there_are_not(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Form(**keywords)


def test_several_images_in_a_file_are_noted(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "1.gif", save_all=True, append_images=frames[1:])
    pixels, notes, _ = read([tmp_path / "1.gif"], Form())
    assert pixels.max() == 10 and "the first one is used" in notes["frames"]
