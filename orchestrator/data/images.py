"""Images of any depth and mode as uint8 pixels: one at a time, with one scale for all images of a data set."""

from __future__ import annotations

import io
import math
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageColor, ImageOps, TiffImagePlugin, UnidentifiedImageError

from orchestrator.errors import InputError

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm")
)
"""Files that are read, in any case."""
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "DIB", "PPM")
"""Formats that such a file may hold, whatever its suffix says; Pillow would run other programs for some others."""
Fit = Literal["squash", "crop", "letterbox"]
_GREY = ("1", "L", "LA")
_DEEP_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Turn that each EXIF orientation asks for, so that an image is upright."""
_FRAMES, _BARE = (0xC0, 0xC1, 0xC2), range(0xD0, 0xDB)
"""Markers of a JPEG file: those before its size, in the three usual ways to code it, and those that have no length."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_READERS = 8  # more of them do not read faster, and each may hold a large image


@dataclass(frozen=True)
class Form:
    """Form that all images are given.

    Args:
        size: Side in pixels; None leaves them as they are.
        fit: What becomes of an image that is not square: `squash` changes its proportions, `crop` cuts its longer side on
            both ends, `letterbox` adds a border of the background.
        channels: 1 for grey, 3 for colour; `auto` is 1 where every image is grey.
        background: Colour behind transparent pixels and of borders, as `white` or `#808080`.

    Raises:
        InputError: For a size or colour that there is not.
    """

    size: int | None = None
    fit: Fit = "squash"
    channels: Literal[1, 3, "auto"] = "auto"
    background: str = "white"

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise InputError(f"data.size = {self.size}; it is the side of an image in pixels")
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise InputError(
                f"data.background = {self.background!r} is no colour; write one as white, black or #808080"
            ) from error

    @property
    def colour(self) -> tuple[int, int, int]:
        """The background's red, green and blue."""
        red, green, blue = ImageColor.getrgb(self.background)[:3]
        return red, green, blue

    @property
    def luma(self) -> int:
        """The background's grey."""
        return round(float(np.dot(self.colour, _LUMA)))

    @property
    def is_grey(self) -> bool:
        """Tell whether the background has no colour."""
        return len(set(self.colour)) == 1

    def fitted(self, image: Image.Image, border: tuple[int, int, int] | int | float) -> Image.Image:
        """Resize an image, with a border of this colour where it takes one."""
        if self.size is None or image.size == (self.size, self.size):
            return image
        shape, method = (self.size, self.size), Image.Resampling.BILINEAR
        if self.fit == "crop":
            return ImageOps.fit(image, shape, method)
        if self.fit == "letterbox":
            return ImageOps.pad(image, shape, method, color=border)  # type: ignore[arg-type]
        return image.resize(shape, method)


@dataclass(frozen=True)
class Scale:
    """Values that become 0 and 255; the same for all images of a data set, so that they can be compared.

    Args:
        low: The value that becomes 0.
        high: The value that becomes 255.

    Example:
        >>> Scale.of(0, 3900, floats=False)
        Scale(low=0.0, high=4095.0)
    """

    low: float
    high: float

    @classmethod
    def of(cls, low: float, high: float, *, floats: bool) -> Scale:
        """Choose a scale by the least and the greatest value of all images.

        Integers have the range of as many bits as the greatest value takes, 8 at least. Fractions have the range 0 to 1 or 0 to
        255 if they fill half of it. Everything else is stretched between the least and the greatest value.
        """
        if low >= 0 and not floats:
            return cls(0.0, float(2 ** max(8, int(high).bit_length()) - 1))
        if low >= 0:
            for top in (1.0, 255.0):
                if top / 2 <= high <= top:
                    return cls(0.0, top)
        return cls(float(low), float(high))

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Convert values to 0..255, not rounded."""
        if self == Scale(0.0, 255.0):
            return values.astype(np.float32)
        span = self.high - self.low or 1.0
        return ((values.astype(np.float64) - self.low) * (255 / span)).astype(np.float32)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} becomes 0 to 255"


@dataclass(frozen=True)
class Facts:
    """Facts that a file states of its image.

    Args:
        mode: Mode, as Pillow names it.
        size: Width and height, upright.
        turned: Whether the EXIF orientation had it turned.
        several: Whether the file holds several images.
    """

    mode: str
    size: tuple[int, int]
    turned: bool
    several: bool = False


@dataclass(frozen=True)
class Decoded:
    """An image in its form, before its values are scaled.

    Args:
        pixels: Pixels, (height, width, 1 or 3): uint8, or float32 for values of more than 8 bits, multiplied by `alpha`.
        alpha: Opacity of each pixel in 0..1, (height, width, 1), where it is not 1 everywhere; of deep images only.
        kind: `8 bits`, `integers` or `fractions`.
        low: Least value.
        high: Greatest value.
        facts: What the file says of it.
    """

    pixels: NDArray[Any]
    alpha: NDArray[np.float32] | None
    kind: str
    low: float
    high: float
    facts: Facts


def decode(image: Image.Image, form: Form, encoded: bytes | None = None) -> Decoded:
    """Turn an image upright, put it on the background, and give it its form.

    Args:
        image: An image, which need not be loaded.
        form: The form.
        encoded: Contents of its file; None for the file that it was opened from.

    Raises:
        ValueError: For an image that cannot be used.
    """
    mode, lower = image.mode, _lower_bytes(image, encoded)
    upright = _upright(image)
    facts = Facts(mode, upright.size, upright is not image)
    if lower is not None:
        values = np.asarray(upright, dtype=np.float32) * 256 + np.asarray(_upright(lower), dtype=np.float32)
        bands, alpha = (values[..., :3], values[..., 3:] / np.float32(65535)) if values.shape[-1] == 4 else (values, None)
        return _deep(bands, alpha, form, "integers", replace(facts, mode=f"{mode} of 16 bits"))
    if mode in _DEEP_GREY:
        if "transparency" in image.info:
            raise ValueError("more than 8 bits with a transparent value are not supported; save it with 8 bits, or without")
        return _deep(
            np.asarray(upright, dtype=np.float32)[..., None], None, form, "fractions" if mode == "F" else "integers", facts
        )
    if upright.has_transparency_data:
        behind = Image.new("RGBA", upright.size, (*form.colour, 255))
        behind.alpha_composite(upright.convert("RGBA"))
        upright = behind
    grey = form.channels == 1 or (mode in _GREY and form.is_grey)
    colour = upright.convert("RGB")
    plain = colour.convert("L") if grey else colour
    pixels = np.asarray(form.fitted(plain, form.luma if grey else form.colour), dtype=np.uint8)
    return Decoded(pixels.reshape(*pixels.shape[:2], -1), None, "8 bits", 0, 255, facts)


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged note on an image says nothing, and the image is as good as without
        return image
    return image if turn is None else image.transpose(turn)


def _lower_bytes(image: Image.Image, encoded: bytes | None) -> Image.Image | None:
    """Return the lower bytes of a colour image of 16 bits, of which Pillow keeps the upper ones; None for any other image.

    Pillow names the order of the two bytes when it unpacks pixels: read in the other order, the lower ones are what it keeps.
    """
    tile = getattr(image, "tile", None)
    arguments = tile[0][3] if tile else ()
    raw = arguments if isinstance(arguments, str) else next((a for a in arguments or () if isinstance(a, str)), "")
    if image.mode in _DEEP_GREY or not raw.endswith((";16B", ";16L", ";16N")):
        return None
    if raw.startswith("LA"):
        raise ValueError("grey with transparency in 16 bits is not supported; save it with 8 bits, or without transparency")
    file = str(getattr(image, "filename", "")) if encoded is None else io.BytesIO(encoded)
    if not file:
        raise ValueError("colours of 16 bits are read from a file only; open it by its path, or return an array")
    little = raw.endswith("L") or (raw.endswith("N") and sys.byteorder == "little")
    other = raw[:-1] + ("B" if little else "L")
    Image.init()
    lower = Image.open(file, formats=FORMATS)
    swapped = other if isinstance(arguments, str) else tuple(other if a == raw else a for a in arguments)
    lower.tile = [tile._replace(args=swapped) for tile in lower.tile]
    return lower


def _deep(bands: NDArray[np.float32], alpha: NDArray[np.float32] | None, form: Form, kind: str, facts: Facts) -> Decoded:
    seen = bands if alpha is None or not alpha.any() else bands[alpha[..., 0] > 0]
    if not np.isfinite(seen).all():
        raise ValueError("some of its pixels are NaN or infinite")
    if form.channels == 1 and bands.shape[-1] == 3:
        bands = (bands @ _LUMA)[..., None]
    if alpha is None and form.fit == "letterbox":
        alpha = np.ones((*bands.shape[:2], 1), dtype=np.float32)  # a border is as good as transparent
    if alpha is not None and form.channels != 1 and not form.is_grey:
        bands = np.broadcast_to(bands, (*bands.shape[:2], 3))
    layers = bands if alpha is None else np.concatenate([bands * alpha, alpha], axis=-1)
    planes = [Image.fromarray(np.ascontiguousarray(layer)) for layer in np.moveaxis(layers, -1, 0)]
    fitted = np.stack([np.asarray(form.fitted(plane, 0.0)) for plane in planes], axis=-1)
    low, high = float(seen.min()), float(seen.max())
    if alpha is None:
        return Decoded(fitted, None, kind, low, high, facts)
    return Decoded(fitted[..., :-1], fitted[..., -1:], kind, low, high, facts)


Scales = dict[str, tuple[float, float]]
"""Values that become 0 and 255 in images of more than 8 bits, of "integers" and of "fractions"."""


def finish(images: Sequence[Decoded], form: Form) -> tuple[NDArray[np.uint8], dict[str, str], Scales]:
    """Scale images and put them into one array.

    Returns:
        (n, channels, height, width); what there is to say of them by title; and the scales that were chosen.

    Raises:
        ValueError: For images of several sizes.
    """
    shapes = Counter(image.pixels.shape[:2] for image in images)
    if len(shapes) > 1:
        listed = ", ".join(f"{w}x{h}" for h, w in sorted(shapes)[:4])
        raise ValueError(f"{len(shapes)} different sizes ({listed}{', ...' if len(shapes) > 4 else ''}); resize them to one")
    scales = {}
    for kind in sorted({image.kind for image in images} - {"8 bits"}):
        alike = [image for image in images if image.kind == kind]
        scales[kind] = Scale.of(min(i.low for i in alike), max(i.high for i in alike), floats=kind == "fractions")
    most = max(image.pixels.shape[-1] for image in images)
    channels = most if form.channels == "auto" else form.channels
    height, width = next(iter(shapes))
    pixels = np.empty((len(images), channels, height, width), dtype=np.uint8)
    for target, image in zip(pixels, images, strict=True):
        target[:] = _scaled(image, scales.get(image.kind), form).transpose(2, 0, 1)
    return pixels, _notes(images, form, scales), {kind: (scale.low, scale.high) for kind, scale in scales.items()}


def _scaled(image: Decoded, scale: Scale | None, form: Form) -> NDArray[Any]:
    if scale is None:
        return image.pixels
    values = scale.apply(image.pixels)
    if image.alpha is not None:  # pixels are multiplied by it already, which zero is not
        behind = np.array(form.colour if image.pixels.shape[-1] == 3 else (form.luma,), dtype=np.float32)
        values = values + (1 - image.alpha) * (behind - scale.apply(np.zeros(1)))
    rounded: NDArray[Any] = np.rint(np.clip(values, 0, 255))
    return rounded


def _notes(images: Sequence[Decoded], form: Form, scales: dict[str, Scale]) -> dict[str, str]:
    modes = Counter(image.facts.mode for image in images)
    sizes = sorted({image.facts.size for image in images}, key=lambda s: (s[0] * s[1], s))
    words = [f"{w}x{h}" for w, h in sizes]
    shown = ", ".join(words) if len(words) < 4 else f"{len(words)} from {words[0]} to {words[-1]}"
    if form.size is not None and any(w != h for w, h in sizes):
        shown += "; not square, " + {"squash": "squashed", "crop": "cropped", "letterbox": "with borders"}[form.fit]
    notes = {"sizes": shown, "modes": ", ".join(f"{count} {mode}" for mode, count in modes.most_common())}
    if scales:
        notes["scaling"] = "; ".join(f"{kind}: {scale}, in all images alike" for kind, scale in scales.items())
    if turned := sum(image.facts.turned for image in images):
        notes["turned"] = f"{turned} upright, by their EXIF orientation"
    if several := sum(image.facts.several for image in images):
        notes["frames"] = f"{several} files hold several images; the first one is used"
    return notes


def too_deep(name: str) -> InputError:
    """Return the refusal of an image of more than 8 bits where not all images are read before the first one is used."""
    return InputError(
        f"{name} has more than 8 bits a channel; such images share a scale that is known once all are read, so write "
        "data.stream=false, or save them with 8 bits"
    )


class Store(Protocol):
    """Encoded images that are read one by one, in any order, and from any process: files, members of archives, rows."""

    def __len__(self) -> int: ...

    def encoded(self, number: int) -> bytes:
        """Return the contents of an image's file. Raises OSError."""

    def name(self, number: int) -> str:
        """Name an image, for messages."""


@dataclass(frozen=True)
class Paths:
    """Store of image files, by their paths.

    Args:
        paths: The paths; where there are very many, `folders.Listing` takes less memory than a list.
    """

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def encoded(self, number: int) -> bytes:
        return self.paths[number].read_bytes()

    def name(self, number: int) -> str:
        return str(self.paths[number])


@contextmanager
def opened(store: Store, number: int) -> Iterator[tuple[Image.Image, bytes]]:
    """Open an image of a store.

    Raises:
        InputError: Here and in the block, for an image that cannot be read in full, with its name.
    """
    with named(store, number):
        encoded = store.encoded(number)
        # As a stream: by its name, Pillow maps a plain TIFF into memory, and mixes up the sides of one to be turned.
        try:
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ValueError(_unknown(encoded)) from error
        with image:
            yield image, encoded


def _unknown(encoded: bytes) -> str:
    """Say why Pillow does not know a file's format; of a TIFF what its pixels are, as floating-point numbers in colour."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(encoded[:8])
        file = io.BytesIO(encoded)
        file.seek(tags.next)
        tags.load(file)
        samples, bits = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1), tags[TiffImagePlugin.BITSPERSAMPLE][0]
        kind = {3: "floating-point numbers", 2: "signed numbers"}.get(
            tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0], "numbers"
        )
    except (SyntaxError, OSError, LookupError, TypeError, ValueError, struct.error):
        return f"it is none of {', '.join(FORMATS)}, or cut off"
    return (
        f"it is a TIFF of {samples} {kind} of {bits} bits a pixel, which Pillow does not read; save it with 8 or 16 bits a "
        "channel, or in grey"
    )


def is_plain_jpeg(encoded: bytes) -> bool:
    """Tell whether bytes are a JPEG file in grey or in three colours, of no more pixels than Pillow opens, by its header alone.

    This takes a twentieth of the time that opening it takes.
    """
    at = 2
    while encoded[:2] == b"\xff\xd8" and encoded[at : at + 1] == b"\xff" and at + 10 <= len(encoded):
        marker = encoded[at + 1]
        if marker in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", encoded, at + 4)
            return bits == 8 and channels in (1, 3) and 0 < height * width <= (Image.MAX_IMAGE_PIXELS or math.inf)
        if not 0xC4 <= marker <= 0xFE or marker in _BARE:
            return False
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4])
    return False


@contextmanager
def named(store: Store, number: int) -> Iterator[None]:
    """Raise InputError with the name of an image for whatever is raised in the block."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombWarning as error:
        raise InputError(f"{store.name(number)} has too many pixels ({error}); make it smaller or take it away") from error
    except Exception as error:  # Pillow's formats raise nearly everything on damaged files
        why = str(error) or type(error).__name__
        raise InputError(f"{store.name(number)} is not a readable image ({why}); repair it or take it away") from error


@contextmanager
def strictly() -> Iterator[None]:
    """Make errors of images with too many pixels, and silence what Pillow says of notes that it cannot read.

    As everything about warnings, this holds for all threads of the process.
    """
    with warnings.catch_warnings():
        refuse_bombs()
        yield


def refuse_bombs() -> None:
    """Do as `strictly` for the rest of this process."""
    Image.init()  # or a format is known only once one of those that are rarer was met
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def read(paths: Sequence[Path], form: Form) -> tuple[NDArray[np.uint8], dict[str, str], Scales]:
    """Read image files; see `read_from`."""
    store = Paths(paths)
    return read_from([(store, number) for number in range(len(store))], form)


def read_from(pairs: Iterable[tuple[Store, int]], form: Form) -> tuple[NDArray[np.uint8], dict[str, str], Scales]:
    """Read images, each of a store. Returns what `finish` does; raises InputError with the name of one that cannot be read."""

    def one(pair: tuple[Store, int]) -> Decoded:
        with opened(*pair) as (image, encoded):
            decoded = decode(image, form, encoded)
            # Last, as looking for more images forgets how this one is turned. Phones save a preview as a second one.
            several = image.format != "MPO" and bool(getattr(image, "is_animated", False))
            return replace(decoded, facts=replace(decoded.facts, several=several))

    with strictly(), ThreadPoolExecutor(_READERS) as pool:  # decoding runs outside the interpreter's lock
        return finish(list(pool.map(one, pairs)), form)
