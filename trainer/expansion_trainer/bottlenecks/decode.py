"""One image file's bytes to pixels, as graph operations only: training and the exported model run this same function.

JPEG (CMYK too), PNG (16 bits, palette; transparency is dropped), the first frame of a GIF, BMP and still WebP. Damaged or
truncated files are errors, never half an image. The largest square in the middle is taken, so that nothing is distorted, and
resized by antialiased bilinear interpolation (the same call for enlarging, where antialiasing changes nothing, and shrinking).
Then it is turned as its EXIF orientation says: a square of pixels turns exactly, and cheaply.
"""

import tensorflow as tf

VERSION = "1"
"""Raised when the same bytes would give other pixels: it is part of the cache's key."""

_SEARCHED = 2**17
"""EXIF stands in one of the first segments of a JPEG, and a segment has at most 64 KiB."""
_SEGMENTS = 64
_ENTRIES = 256
_ORIENTATION = 0x0112
_MARKER, _PADDING, _APP1, _START_OF_SCAN, _END_OF_IMAGE = 0xFF, 0xFF, 0xE1, 0xDA, 0xD9


def decode(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """A scalar string to float32 (size, size, 3), RGB 0..255. Raises InvalidArgumentError for what is not an image."""
    pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])
    square = tf.image.resize(_middle(pixels), [size, size], method="bilinear", antialias=True)
    turn = orientation(encoded)
    upright = tf.cond(turn > 1, lambda: _turned(square, turn), lambda: square)
    return tf.ensure_shape(upright, [size, size, 3])


def distorted(encoded: tf.Tensor, parts: tf.Tensor, size: int) -> tf.Tensor:
    """Like `decode`, of parts of the image: (k, 5) to (k, size, size, 3). See distortion.Distortion for left, top, side,
    brightness, mirrored."""
    pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])
    square, turn = _middle(pixels), orientation(encoded)
    upright = tf.cond(turn > 1, lambda: _turned(square, turn), lambda: square)
    shape = tf.TensorSpec([size, size, 3], tf.float32)
    return tf.map_fn(lambda part: _part(upright, part, size), parts, fn_output_signature=shape)


def _part(square: tf.Tensor, part: tf.Tensor, size: int) -> tf.Tensor:
    extent = tf.shape(square)[0]
    left, top, side = (tf.cast(tf.round(part[i] * tf.cast(extent, tf.float32)), tf.int32) for i in range(3))
    side = tf.clip_by_value(side, 1, extent)
    left, top = tf.minimum(left, extent - side), tf.minimum(top, extent - side)
    cut = tf.slice(square, [top, left, 0], [side, side, 3])
    resized = tf.image.resize(cut, [size, size], method="bilinear", antialias=True)
    lit = tf.clip_by_value(resized * part[3], 0.0, 255.0)
    return tf.ensure_shape(tf.where(part[4] > 0, tf.reverse(lit, [1]), lit), [size, size, 3])


def _middle(pixels: tf.Tensor) -> tf.Tensor:
    """The largest square in the middle of (height, width, 3)."""
    extent = tf.shape(pixels)[:2]
    side = tf.reduce_min(extent)
    start = (extent - side) // 2
    return tf.slice(pixels, [start[0], start[1], 0], [side, side, 3])


def _turned(square: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """(size, size, 3) upright. EXIF's eight orientations are transposing, mirroring and turning upside down, in this order."""
    square = tf.where(turn >= 5, tf.transpose(square, [1, 0, 2]), square)
    square = tf.where(_is_one_of(turn, 2, 3, 6, 7), tf.reverse(square, [1]), square)
    return tf.where(_is_one_of(turn, 3, 4, 7, 8), tf.reverse(square, [0]), square)


def _is_one_of(turn: tf.Tensor, *values: int) -> tf.Tensor:
    return tf.reduce_any(tf.equal(turn, tf.constant(values, tf.int64)))


def orientation(encoded: tf.Tensor) -> tf.Tensor:
    """EXIF's orientation of a JPEG, int64 1 to 8; 1 (upright) for everything else and for damaged EXIF."""
    head = tf.strings.substr(encoded, 0, _SEARCHED)
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 2), b"\xff\xd8")
    return tf.cond(is_jpeg, lambda: _orientation(_Bytes(head)), lambda: tf.constant(1, tf.int64))


class _Bytes:
    """Reads numbers at any offset, a vector of them too; past the end everything is 0."""

    def __init__(self, encoded: tf.Tensor) -> None:
        self._bytes = tf.io.decode_raw(encoded + b"\0", tf.uint8)
        self._last = tf.size(self._bytes, tf.int64) - 1

    def at(self, offset: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self._bytes, tf.clip_by_value(offset, 0, self._last)), tf.int64)

    def ends_before(self, offset: tf.Tensor) -> tf.Tensor:
        return offset >= self._last

    def number(self, offset: tf.Tensor, count: int, little: tf.Tensor | bool = False) -> tf.Tensor:
        """`count` bytes from `offset`, big-endian unless `little`."""
        digits = [self.at(offset + index) for index in range(count)]
        big = sum(digit * 256 ** (count - 1 - index) for index, digit in enumerate(digits))
        small = sum(digit * 256**index for index, digit in enumerate(digits))
        return tf.where(little, small, big)


def _orientation(data: _Bytes) -> tf.Tensor:
    found = _exif_offset(data)
    return tf.cond(found > 0, lambda: _tiff_orientation(data, found), lambda: tf.constant(1, tf.int64))


def _exif_offset(data: _Bytes) -> tf.Tensor:
    """Where the TIFF structure inside a JPEG's APP1 segment begins; 0 if there is none."""

    def searching(offset: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        marker = data.at(offset + 1)
        is_segment = tf.equal(data.at(offset), _MARKER) & ~data.ends_before(offset)
        return tf.equal(found, 0) & is_segment & (marker != _START_OF_SCAN) & (marker != _END_OF_IMAGE)

    def following(offset: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        marker = data.at(offset + 1)
        is_exif = tf.equal(marker, _APP1) & tf.equal(data.number(offset + 4, 6), int.from_bytes(b"Exif\0\0"))
        step = tf.where(tf.equal(marker, _PADDING), tf.constant(1, tf.int64), 2 + data.number(offset + 2, 2))
        return offset + step, tf.where(is_exif, offset + 10, found)

    start = (tf.constant(2, tf.int64), tf.constant(0, tf.int64))
    return tf.while_loop(searching, following, start, maximum_iterations=_SEGMENTS)[1]


def _tiff_orientation(data: _Bytes, tiff: tf.Tensor) -> tf.Tensor:
    """The first orientation entry of the first directory. TIFF 6.0: header of 8 bytes, then entries of 12."""
    little = tf.equal(data.number(tiff, 2), int.from_bytes(b"II"))
    directory = tiff + data.number(tiff + 4, 4, little)
    count = tf.minimum(data.number(directory, 2, little), _ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    is_orientation = tf.equal(data.number(entries, 2, little), _ORIENTATION)
    values = tf.boolean_mask(data.number(entries + 8, 2, little), is_orientation)
    value = tf.concat([values, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, tf.constant(1, tf.int64))


_FORMATS = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
)
_UNREADABLE = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG or other XML"),
)


def why_undecodable(content: bytes) -> str:
    """What is wrong with bytes that `decode` refused, for the owner of the file."""
    if not content:
        return "the file is empty"
    if content[4:8] == b"ftyp":
        return f"{content[8:12].decode('ascii', 'replace')} (HEIC, AVIF or a film) is not supported; convert it to JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "an animated, damaged or truncated WebP"
    for start, name in _FORMATS:
        if content.startswith(start):
            return f"a damaged or truncated {name}"
    for start, name in _UNREADABLE:
        if content.startswith(start):
            return f"{name} is not supported; convert it to JPEG or PNG"
    return f"not a JPEG, PNG, GIF, BMP or WebP: it begins with {content[:16]!r}"
