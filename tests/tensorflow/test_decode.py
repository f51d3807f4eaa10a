"""What decoding promises: every usual kind of picture, upright, in one size; nothing of a damaged one."""

from io import BytesIO

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from expansion_trainer.bottlenecks.decode import decode, orientation, why_undecodable

pytestmark = pytest.mark.tensorflow

SIZE = 32


def pixels(content: bytes, size: int = SIZE) -> np.ndarray:
    return decode(tf.constant(content), size).numpy()


def expected(image: Image.Image, size: int = SIZE) -> np.ndarray:
    """Pillow's decoding and cropping, resized by TensorFlow."""
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) // 2, (height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return tf.image.resize(np.asarray(square), [size, size], antialias=True).numpy()


def distance(content: bytes, image: Image.Image) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(pixels(content) - expected(image)).mean())


@pytest.fixture
def photo(make_picture) -> Image.Image:
    return make_picture(1, 60, 44)


@pytest.mark.parametrize(
    ("file_format", "options", "mode", "tolerance"),
    [
        pytest.param("JPEG", {}, "RGB", 3, id="JPEG"),
        pytest.param("JPEG", {"progressive": True}, "RGB", 3, id="progressive JPEG"),
        pytest.param("JPEG", {}, "L", 3, id="grey JPEG"),
        pytest.param("JPEG", {}, "CMYK", 4, id="CMYK JPEG"),
        pytest.param("PNG", {}, "RGB", 0, id="PNG"),
        pytest.param("PNG", {}, "RGBA", 0, id="PNG with transparency"),
        pytest.param("PNG", {}, "P", 0, id="palette PNG"),
        pytest.param("PNG", {}, "1", 0, id="black and white PNG"),
        pytest.param("GIF", {}, "P", 0, id="GIF"),
        pytest.param("BMP", {}, "RGB", 0, id="BMP"),
        pytest.param("WEBP", {"lossless": True}, "RGB", 0, id="WebP"),
    ],
)
def test_usual_pictures_are_read_as_pillow_reads_them(photo, encode, file_format, options, mode, tolerance):
    image = photo.convert(mode)
    assert distance(encode(image, file_format, **options), image) <= tolerance


def test_a_png_of_sixteen_bits_keeps_its_brightness(photo, encode):
    grey = photo.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert distance(encode(deep, "PNG"), grey) <= 1


def test_of_an_animation_the_first_frame_counts(photo, encode):
    first = photo.convert("P")
    content = encode(first, "GIF", save_all=True, append_images=[photo.rotate(180).convert("P")])
    assert distance(content, first) == 0


@pytest.mark.parametrize("byte_order", [pytest.param("<", id="Intel"), pytest.param(">", id="Motorola")])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photograph_is_turned_upright_as_its_exif_says(photo, encode, byte_order, turn):
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F], exif[0x0112] = "a maker's name", turn
    content = encode(photo, exif=exif, quality=100, subsampling=0)
    assert int(orientation(tf.constant(content))) == turn
    assert distance(content, ImageOps.exif_transpose(Image.open(BytesIO(content)))) < 3


def test_exif_behind_other_segments_is_found(photo, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(photo, exif=exif)
    other = b"\xff\xe2" + (60_000).to_bytes(2, "big") + b"\xff\xe1" * 29_999
    assert int(orientation(tf.constant(content[:2] + other + b"\xff" + content[2:]))) == 6


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 11, 12, 20, 25, 31])
def test_damaged_exif_means_upright(cut):
    """Every length of a header that ends too early, and one whose directory lies beyond the end."""
    exif = Image.Exif()
    exif[0x0112] = 6
    tiff = exif.tobytes()
    content = b"\xff\xd8\xff\xe1" + (len(tiff) + 2).to_bytes(2, "big") + tiff
    assert int(orientation(tf.constant(content))) == 6
    assert int(orientation(tf.constant(content[:cut]))) == 1
    assert int(orientation(tf.constant(content.replace(b"*\0\x08\0\0\0", b"*\0\xff\xff\xff\xff")))) in {1, 6}


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_means_upright(value):
    entry = b"\x12\x01\x03\0\x01\0\0\0" + value.to_bytes(2, "little") + b"\0\0"
    tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    content = b"\xff\xd8\xff\xe1" + (len(tiff) + 2).to_bytes(2, "big") + tiff
    assert int(orientation(tf.constant(content))) == 1


def damaged(photo, encode) -> dict[str, bytes]:
    jpeg = encode(photo)
    return {
        "a damaged or truncated JPEG": jpeg[: len(jpeg) // 2],
        "a damaged or truncated PNG": encode(photo, "PNG")[:-400],
        "a damaged or truncated GIF": encode(photo.convert("P"), "GIF")[:-400],
        "a damaged or truncated BMP": encode(photo, "BMP")[:-400],
        "an animated, damaged or truncated WebP": encode(photo, "WEBP", lossless=True)[:-400],
        "TIFF is not supported; convert it to JPEG or PNG": encode(photo, "TIFF"),
        "the file is empty": b"",
        "not a JPEG, PNG, GIF, BMP or WebP: it begins with b'This is no image'": b"This is no image at all",
        "heic (HEIC, AVIF or a film) is not supported; convert it to JPEG": b"\0\0\0\x18ftypheic" + bytes(40),
    }


def test_nothing_of_a_damaged_picture_is_used_and_it_is_said_why(photo, encode):
    for why, content in damaged(photo, encode).items():
        with pytest.raises(tf.errors.InvalidArgumentError):
            pixels(content)
        assert why_undecodable(content) == why


def test_a_jpeg_without_its_last_bytes_is_damaged(photo, encode):
    with pytest.raises(tf.errors.InvalidArgumentError):
        pixels(encode(photo)[:-2])


@pytest.mark.parametrize("width", [pytest.param(8, id="enlarged"), pytest.param(500, id="shrunk")])
def test_the_size_asked_for_is_what_comes(make_picture, encode, width):
    image = pixels(encode(make_picture(2, width, width // 2)), 40)
    assert image.shape == (40, 40, 3)
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 255


def test_a_batch_in_a_graph_gives_what_one_image_gives(photo, make_picture, encode):
    exif = Image.Exif()
    exif[0x0112] = 8
    contents = [encode(photo, exif=exif), encode(make_picture(3), "PNG"), encode(make_picture(4), "BMP")]
    batch = tf.function(
        lambda encoded: tf.map_fn(lambda one: decode(one, SIZE), encoded, fn_output_signature=tf.float32)
    )(tf.constant(contents)).numpy()
    for one, content in zip(batch, contents, strict=True):
        assert np.array_equal(one, pixels(content))


def test_the_middle_of_a_long_picture_is_taken_undistorted(encode):
    """White sides, and in the middle a black square that a squashed picture would show three times as narrow."""
    canvas = Image.new("RGB", (180, 60), "white")
    canvas.paste("black", (60, 0, 120, 60))
    assert pixels(encode(canvas, "PNG")).max() == 0
