"""The decoder: every mode as a viewer shows it, damage and size in one line with the image's name."""

import io
import struct
import threading
import time
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from search.data import images
from search.data.encoded import EncodedSplit
from search.data.images import GROUND, MAX_PIXELS, ImageSource, centre_crop, check_header, decode, decode_all
from search.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 12), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> ImageSource:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return ImageSource("x.png", content.getvalue())


def pixels(source: ImageSource) -> np.ndarray:
    image = decode(source)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    fine = GREY.astype(np.uint16) * 257 + RNG.integers(-100, 100, GREY.shape)
    fine = np.clip(fine, 0, 65535).astype(np.uint16)
    result = pixels(encoded(Image.fromarray(fine), kind))
    assert np.abs(result - GREY[..., None]).max() <= 1
    np.testing.assert_array_equal(result, pixels(encoded(Image.fromarray(GREY))).round())


def test_sixteen_bit_colours_are_scaled_to_eight():
    height, width, _ = COLOUR.shape
    rows = b"".join(b"\0" + (COLOUR[y].astype(np.uint16) * 257).astype(">u2").tobytes() for y in range(height))
    result = pixels(ImageSource("x.png", png(width, height, 16, 2, zlib.compress(rows))))
    assert np.abs(result - COLOUR).max() <= 1


def png(width: int, height: int, bits: int, colour: int, content: bytes) -> bytes:
    """A PNG file with any header; colour 0 is grey, 2 is RGB."""
    built = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    for name, part in ((b"IHDR", head), (b"IDAT", content), (b"IEND", b"")):
        built += struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
    return built


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_on_the_mean_colour(mode):
    """Shapes in black whose outlines are in alpha alone are seen."""
    alpha = RNG.integers(0, 256, GREY.shape, dtype=np.uint8)
    ink = np.zeros_like(COLOUR) if mode == "RGBA" else np.zeros_like(GREY)
    image = Image.fromarray(np.dstack([ink, alpha]), mode)
    share = alpha[..., None] / 255
    assert np.abs(pixels(encoded(image)) - (1 - share) * np.array(GROUND)).max() <= 1


def test_palettes_keep_their_colours_and_their_transparency():
    image = Image.fromarray(COLOUR).quantize(8)
    expected = np.asarray(image.convert("RGB")).astype(int)
    np.testing.assert_array_equal(pixels(encoded(image)), expected)
    clear = np.asarray(image) == 3
    expected[clear] = GROUND
    np.testing.assert_array_equal(pixels(encoded(image, transparency=3)), expected)


def test_cmyk_has_the_colours_that_ink_on_paper_has():
    colours = np.zeros((16, 16, 4), np.uint8)
    colours[:, :8] = (255, 0, 0, 0)  # cyan
    colours[:, 8:] = (0, 0, 255, 128)  # yellow, half black
    result = pixels(encoded(Image.fromarray(colours, "CMYK"), "JPEG", quality=100))
    assert np.abs(result[:, :7] - (0, 255, 255)).max() <= 3
    assert np.abs(result[:, 9:] - (127, 127, 0)).max() <= 3


def test_grey_and_bilevel_images_are_the_same_in_every_channel():
    for image in (Image.fromarray(GREY), Image.fromarray(GREY > 100)):
        expected = np.asarray(image.convert("L"))[..., None]
        np.testing.assert_array_equal(pixels(encoded(image)), np.repeat(expected, 3, 2))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_tiff_whose_zero_is_white_is_seen_so(bits, orientation):
    stored = GREY if bits == 8 else GREY.astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(stored), "TIFF", exif=exif).content
    black, white = (struct.pack("<HHIH", 262, 3, 1, zero) for zero in (1, 0))  # the tag's entry
    assert content.count(black) == 1
    seen = pixels(ImageSource("x.tif", content.replace(black, white)))
    np.testing.assert_array_equal(seen[..., 0], 255 - np.rot90(GREY, -1 if orientation == 6 else 0))


def test_grey_of_16_bits_may_be_transparent_at_one_value():
    stored = GREY.astype(np.uint16) * 257
    seen = pixels(encoded(Image.fromarray(stored), transparency=int(stored[3, 3])))
    clear = stored[3, 3] == stored
    assert clear.any() and not clear.all()
    assert (seen[clear] == GROUND).all() and (seen[~clear] == GREY[~clear][:, None]).all()


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_images_stand_upright_as_exif_says(orientation, seen):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(COLOUR), exif=exif)), seen(COLOUR))


@pytest.mark.filterwarnings("ignore")  # pytest has filters of its own
def test_damaged_exif_data_are_passed_over():
    content = encoded(Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12").content
    assert pixels(ImageSource("x.jpg", content)).shape == COLOUR.shape


def test_pixels_of_other_kinds_are_refused():
    wide = Image.fromarray(GREY.astype(np.int32) * 100_000)
    with pytest.raises(UserError, match=r"x\.png can't be read as an image: pixels have 8 or 16 bits, but its values"):
        decode(encoded(wide, "TIFF"))
    with pytest.raises(UserError, match="floating-point"):
        decode(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"))


def test_damage_is_told_with_the_name_of_the_file(tmp_path):
    whole = encoded(Image.fromarray(RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8))).content
    for name, content, message in (
        ("empty.png", b"", "it is empty"),
        ("cut.png", whole[: len(whole) // 2], "truncated"),
        ("._x.png", b"\0\x05\x16\x07" * 20, "none of BMP, GIF"),
        ("page.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of BMP, GIF"),  # runs a program
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            decode(ImageSource(str(tmp_path / name)))
        assert str(caught.value).startswith(f"{tmp_path / name} can't be read as an image: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        decode(ImageSource(str(tmp_path / "none.png")))
    with pytest.raises(UserError, match="not a file"):
        decode(ImageSource(str(tmp_path)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("side", "words"), [(13_000, "13,000 x 13,000 = 169,000,000"), (40_000, "1600000000 pixels")])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(side, words):
    source = ImageSource("bomb.png", png(side, side, 8, 0, b""))
    for read in (check_header, decode):
        with pytest.raises(UserError, match=f"bomb.png .*at most {MAX_PIXELS:,} pixels, but .*{words}"):
            read(source)


def test_a_long_strip_is_cropped_before_it_is_scaled():
    strip = np.zeros((2, 20_000, 3), np.uint8)
    strip[:, 9_999:10_001] = 200
    begun = time.process_time()
    result = centre_crop(Image.fromarray(strip), 224)
    assert time.process_time() - begun < 5  # 15 s and 3.3 GB when it was scaled as a whole
    assert result.size == (224, 224) and np.asarray(result).min() == 200


@pytest.mark.parametrize("resolution", [16, 96])
def test_the_middle_is_the_same_of_an_image_and_of_a_tensor(resolution):
    """Seven eighths of the shorter side from 96 pixels on, all of it below."""
    ramp = np.broadcast_to(np.linspace(0, 255, 200)[None, :, None], (160, 200, 3)).astype(np.uint8)
    result = np.asarray(centre_crop(Image.fromarray(ramp), resolution)).astype(int)
    side = 140 if resolution >= 96 else 160
    centres = (np.arange(resolution) + 0.5) * side / resolution + (200 - side) / 2
    inner = slice(2, -2)  # at its ends the filter sees fewer pixels
    assert np.abs(result[5, inner, 0] - centres[inner] * 255 / 200).max() < 2
    tensor = centre_crop(torch.from_numpy(ramp.copy()).permute(2, 0, 1), resolution).permute(1, 2, 0)
    assert np.abs(tensor.numpy().astype(int) - result).max() <= 1


def test_a_stream_names_the_image_that_it_could_not_decode():
    good, bad = encoded(Image.fromarray(COLOUR)), ImageSource("shots/7.png", b"\x89PNG\r\n\x1a\n")
    split = EncodedSplit((good, bad, good), torch.tensor([0, 1, 0]), 8)
    stream = split.stream([(torch.tensor([0, 2]), 0), (torch.tensor([0, 1]), 0)])
    assert torch.equal(next(stream)[0], decode_all([good, good], 8))
    with pytest.raises(UserError, match=r"^shots/7\.png can't be read as an image: [^\n]*$"):
        next(stream)


@pytest.mark.parametrize(("small_seconds", "alone"), [(1e9, 50), (-1.0, images.TRIED)])
def test_only_images_that_take_long_are_worked_on_side_by_side(small_seconds, alone, monkeypatch):
    monkeypatch.setattr(images, "SMALL_SECONDS", small_seconds)
    done = list(images.for_each(range(50), lambda item: (item, threading.get_ident()), "look"))
    assert [item for item, _ in done] == list(range(50))
    assert [thread == threading.get_ident() for _, thread in done] == [k < alone for k in range(50)]


def test_images_that_begin_to_take_long_are_shared_out(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(images, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def work(item):
        clock[0] += 0.002 * (item > 20) + 5.0 * (item == 0)  # the first one loads a library
        return threading.get_ident()

    threads = list(images.for_each(range(48), work, "look"))
    assert [thread == threading.get_ident() for thread in threads] == [k < 2 * images.TRIED for k in range(48)]
