"""Pictures of every mode come out upright and in the right colours."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.data import decoding
from advkit.data.decoding import decode, read_in_grey, upright_size
from advkit.files.errors import InputError

RANDOM = np.random.default_rng(4)
SIZE = (6, 8)
COLOUR = Image.fromarray(RANDOM.integers(0, 256, (*SIZE, 3), np.uint8))
GREY = Image.fromarray(RANDOM.integers(0, 256, SIZE, np.uint8))


def tensor(image: Image.Image) -> torch.Tensor:
    pixels = torch.tensor(np.array(image))
    return (pixels if pixels.ndim == 3 else pixels.unsqueeze(-1)).permute(2, 0, 1) / 255.0


def saved(image, file, **options):
    image.save(file, **options)
    return file


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm"])
def test_colour_is_exact_in_lossless_files(suffix, tmp_path):
    file = saved(COLOUR, tmp_path / f"1.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    assert torch.equal(decode(file, 3, SIZE), tensor(COLOUR))
    assert torch.equal(decode(file, 1, SIZE), tensor(COLOUR.convert("L")))


def test_grey_is_repeated_or_kept(tmp_path):
    file = saved(GREY, tmp_path / "1.png")
    assert torch.equal(decode(file, 1, SIZE), tensor(GREY))
    assert torch.equal(decode(file, 3, SIZE), tensor(GREY).expand(3, -1, -1))


def test_colour_that_is_read_in_grey_is_told(tmp_path):
    colour, grey = saved(COLOUR, tmp_path / "1.png"), saved(GREY, tmp_path / "2.png")
    palette, bits = saved(COLOUR.quantize(9), tmp_path / "3.png"), saved(GREY.convert("1"), tmp_path / "4.png")
    for file in (colour, palette):
        told = read_in_grey([file, grey], 1)
        assert told == f"pictures in colour, such as {file.name}, are read in grey, as the model takes them"
        assert read_in_grey([file], 3) is None
    for file in (grey, bits):
        assert read_in_grey([file], 1) is None
        assert "1.png" in read_in_grey([file, colour], 1), "not only the first is looked at"
    assert read_in_grey([], 1) is None


def test_palette(tmp_path):
    file = saved(COLOUR.quantize(256), tmp_path / "1.png")
    assert torch.allclose(decode(file, 3, SIZE), tensor(COLOUR), atol=3 / 255)


def test_one_bit(tmp_path):
    bits = GREY.point(lambda v: 255 * (v > 127)).convert("1")
    assert torch.equal(decode(saved(bits, tmp_path / "1.png"), 1, SIZE), tensor(bits.convert("L")))


def test_cmyk(tmp_path):
    for colour, expected in (((0, 255, 255, 0), (1.0, 0, 0)), ((255, 0, 0, 0), (0, 1.0, 1.0)), ((0,) * 4, (1.0,) * 3)):
        file = saved(Image.new("CMYK", (8, 8), colour), tmp_path / "1.jpg", quality=100)
        found = decode(file, 3, (8, 8)).mean(dim=(1, 2))
        assert torch.allclose(found, torch.tensor(expected, dtype=torch.float32), atol=0.02)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_over_white(mode, tmp_path):
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 1), (0, 0, 0, 0))
    image = image.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else image.convert(mode)
    file = saved(image, tmp_path / "1.png")
    expected = torch.zeros(2, 4)
    expected[0, 1] = expected[1, 2] = 1.0
    assert torch.equal(decode(file, 3, (2, 4)), expected.expand(3, -1, -1))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(suffix, tmp_path):
    deep = np.array([[0, 255, 256], [32768, 65000, 65535]], np.uint16)
    found = decode(saved(Image.fromarray(deep), tmp_path / f"1.{suffix}"), 3, (2, 3))
    assert torch.allclose(found, torch.tensor(deep / 65535.0, dtype=torch.float32).expand(3, -1, -1), atol=1e-7)


def test_sixteen_bits_big_endian_and_portable_greymaps(tmp_path):
    (tmp_path / "1.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0x80, 0x00, 0xFF, 0xFF]))
    found = decode(tmp_path / "1.pgm", 1, (1, 2)).flatten()
    assert torch.allclose(found, torch.tensor([32768 / 65535, 1.0]))


def test_float_pictures_must_lie_in_range(tmp_path):
    good = RANDOM.random(SIZE).astype(np.float32)
    assert torch.equal(decode(saved(Image.fromarray(good), tmp_path / "1.tiff"), 1, SIZE)[0], torch.tensor(good))
    for wrong in (good * 255, good - 1, np.full(SIZE, np.nan, np.float32), np.full(SIZE, 70_000, np.int32)):
        with pytest.raises(InputError, match="beyond"):
            decode(saved(Image.fromarray(wrong), tmp_path / "1.tiff"), 1, SIZE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_pictures_are_turned_upright(orientation, deep, tmp_path):
    """Undoing what a camera does for each EXIF orientation gives back the same picture."""
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    undo |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    upright = Image.fromarray(RANDOM.integers(0, 65536, SIZE, np.uint16)) if deep else COLOUR
    stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(stored, tmp_path / "1.png", exif=exif)
    assert upright_size(file) == SIZE
    scale = 65535.0 if deep else 255.0
    expected = torch.tensor(np.array(upright).astype(np.float32)) / scale
    found = decode(file, 3, SIZE)
    assert torch.allclose(found if not deep else found[0], expected if deep else expected.permute(2, 0, 1), atol=1e-7)


def test_broken_exif_does_not_matter(tmp_path):
    file = saved(COLOUR, tmp_path / "1.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff" * 3)
    assert upright_size(file) == SIZE
    assert decode(file, 3, SIZE).shape == (3, *SIZE)


def test_shorter_side_is_resized_and_the_centre_kept(tmp_path):
    wide = Image.new("RGB", (40, 20), (0, 0, 255))
    wide.paste((255, 0, 0), (10, 0, 30, 20))
    found = decode(saved(wide, tmp_path / "1.png"), 3, (10, 10))
    assert torch.allclose(found[:, :, 1:-1], torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 10, 8), atol=1e-6)
    tall = decode(saved(wide.transpose(Image.Transpose.ROTATE_90), tmp_path / "2.png"), 3, (10, 10))
    assert torch.allclose(tall[:, 1:-1], torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 8, 10), atol=1e-6)


def test_resizing_is_antialiased_as_pillow_does(tmp_path):
    image = Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), np.uint8))
    oracle = tensor(image.resize((16, 16), Image.Resampling.BILINEAR))
    found = decode(saved(image, tmp_path / "1.png"), 3, (16, 16))
    assert torch.allclose(found, oracle, atol=1.5 / 255)


def test_a_thread_of_an_image_is_refused_before_memory_is_spent(tmp_path):
    file = saved(Image.new("L", (60_000, 1)), tmp_path / "1.png")
    with pytest.raises(InputError, match="too thin"):
        decode(file, 1, (224, 224))


def test_a_decompression_bomb(tmp_path, monkeypatch):
    file = saved(COLOUR, tmp_path / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match="bomb"):
        decode(file, 3, SIZE)


@pytest.mark.parametrize("suffix", ["png", "eps", "jpg"])
@pytest.mark.parametrize("text", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", b"%PDF-1.4\n"])
def test_programs_are_not_run(suffix, text, tmp_path, monkeypatch):
    def started(*args, **kwargs):
        raise AssertionError(f"started {args}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "system", started)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", started)
    file = tmp_path / f"x.{suffix}"
    file.write_bytes(text)
    for read in (upright_size, lambda file: decode(file, 3, SIZE)):
        with pytest.raises(InputError, match="cannot identify image file"):
            read(file)


def test_libtiff_keeps_quiet(tmp_path, capfd):
    file = saved(
        Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), np.uint8)), tmp_path / "1.tif", compression="tiff_lzw"
    )
    text = file.read_bytes()
    file.write_bytes(text[:200] + bytes(len(text) // 2) + text[200 + len(text) // 2 :])
    with pytest.raises(InputError, match=r"1\.tif"):
        decode(file, 3, (64, 64))
    os.write(2, b"restored")
    assert capfd.readouterr().err == "restored"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_ran_out_is_no_damage(error, tmp_path, monkeypatch):
    def fails(*_):
        raise error

    monkeypatch.setattr(decoding, "resize_and_cut", fails)
    with pytest.raises(InputError, match=r"1\.png: memory ran out"):
        decode(saved(COLOUR, tmp_path / "1.png"), 3, SIZE)


MODES = ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I;16", "jpeg"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_big_pictures_come_out_as_others(mode, orientation, tmp_path, monkeypatch):
    """Averaged down first or not, a smooth picture looks the same."""
    y, x = np.mgrid[0:120, 0:200]
    if mode == "I;16":
        image = Image.fromarray((x * 300 + y * 40).astype(np.uint16))
    else:
        image = Image.fromarray(np.stack([x, y * 2, 255 - x], -1).astype(np.uint8))
        if mode in ("RGBA", "LA"):
            image.putalpha(Image.fromarray((y * 2).astype(np.uint8)))
        image = image.convert("RGB" if mode == "jpeg" else mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    suffix = {"CMYK": "tif", "jpeg": "jpg"}.get(mode, "png")
    file = saved(image, tmp_path / f"1.{suffix}", exif=exif, **({"quality": 95} if mode == "jpeg" else {}))
    whole = [decode(file, channels, (12, 10)) for channels in (1, 3)]
    seen, inner = [], decoding.resize_and_cut
    monkeypatch.setattr(decoding, "_BIG", 1000)
    monkeypatch.setattr(
        decoding, "resize_and_cut", lambda image, *rest: seen.append(image.shape[1:]) or inner(image, *rest)
    )
    for channels, expected in zip((1, 3), whole, strict=True):
        found = decode(file, channels, (12, 10))
        assert torch.allclose(found, expected, atol=0.12 if mode == "1" else 0.03)
        assert 20 <= min(seen[-1]) < max(seen[-1]) < 120


def test_a_picture_of_more_than_2_to_the_24_pixels_never_becomes_floats_whole(monkeypatch, tmp_path):
    seen, inner = [], decoding.resize_and_cut
    monkeypatch.setattr(
        decoding, "resize_and_cut", lambda image, *rest: seen.append(image.shape[1:]) or inner(image, *rest)
    )
    for side in (4096, 4097):
        decode(saved(Image.new("L", (side, side)), tmp_path / "1.png"), 1, (8, 8))
    assert seen[0] == (4096, 4096)
    assert max(seen[1]) < 100


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", pytest.param("tiff", marks=pytest.mark.slow), "bmp"])
def test_any_byte_may_be_wrong(suffix, tmp_path):
    text = saved(COLOUR, tmp_path / f"whole.{suffix}").read_bytes()
    file = tmp_path / f"1.{suffix}"
    for place in range(0, len(text), max(1, len(text) // 60)):
        for wrong in (text[:place], text[:place] + bytes([text[place] ^ 0xFF]) + text[place + 1 :]):
            file.write_bytes(wrong)
            try:
                found = decode(file, 3, (8, 8))
            except InputError as error:
                assert file.name in str(error)
            else:
                assert bool(((found >= 0) & (found <= 1)).all())
