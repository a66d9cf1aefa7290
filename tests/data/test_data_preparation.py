"""Pictures are prepared as timm and torchvision prepare them for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from advkit.data import reference
from advkit.data.decoding import Resize, decode
from advkit.models.libraries import timm_description, torchvision_defaults, torchvision_names

LEVEL = 1 / 255  # timm scales in 8 bits, twice rounded; advkit in floats


def picture(path: Path, height: int, width: int) -> Path:
    """Smooth shapes with edges on all sides, so that a cut of one pixel more or less shows."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    red = 127 + 120 * np.sin(rows / 5) * np.cos(columns / 7)
    green, blue = 255 * rows / height, 255 * columns / width
    pixels = np.stack([red, green, blue], -1)
    pixels[:9, :, :], pixels[:, -6:, :] = 255, 0
    Image.fromarray(pixels.round().astype(np.uint8)).save(path)
    return path


def by_timm(file: Path, size: tuple[int, int], crop_pct: float, interpolation: str) -> Tensor:
    prepare = create_transform(
        (3, *size), crop_pct=crop_pct, interpolation=interpolation, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    found: Tensor = prepare(Image.open(file))
    return found


@pytest.mark.parametrize(("height", "width"), [(200, 240), (301, 160), (97, 97), (60, 47), (161, 160)])
@pytest.mark.parametrize(
    ("size", "crop_pct", "interpolation"),
    [
        ((160, 160), 0.95, "bilinear"),
        ((160, 160), 0.95, "bicubic"),
        ((64, 64), 0.875, "bicubic"),
        ((64, 64), 0.9, "bilinear"),
        ((63, 63), 0.875, "bilinear"),
        ((96, 96), 1.0, "bilinear"),
        ((96, 96), 1.0, "bicubic"),
    ],
)
def test_as_timm_prepares(
    tmp_path: Path, height: int, width: int, size: tuple[int, int], crop_pct: float, interpolation: str
) -> None:
    file = picture(tmp_path / "p.png", height, width)
    wanted = by_timm(file, size, crop_pct, interpolation)
    found = decode(file, 3, size, crop_pct=crop_pct, interpolation=interpolation)
    assert found.shape == wanted.shape == (3, *size)
    assert float((found - wanted).abs().max()) <= 2 * LEVEL
    assert float((found - wanted).abs().mean()) <= LEVEL / 2


@pytest.mark.parametrize("other", [{"crop_pct": 0.875}, {"crop_pct": 0.95, "interpolation": "nearest"}])
def test_another_preparation_is_further_away(tmp_path: Path, other: dict[str, object]) -> None:
    file = picture(tmp_path / "p.png", 200, 240)
    wanted = by_timm(file, (160, 160), 0.95, "bilinear")
    assert float((decode(file, 3, (160, 160), **other) - wanted).abs().max()) > 0.1  # type: ignore[arg-type]


def test_as_torchvision_prepares(tmp_path: Path) -> None:
    import torchvision

    file = picture(tmp_path / "p.png", 300, 400)
    for name in ("resnet18", "resnet50", "vit_b_16", "efficientnet_b0"):
        preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        config = torchvision_defaults(name)
        assert config.crop is not None
        wanted = preset(Image.open(file)) * torch.tensor(config.std)[:, None, None]
        wanted = wanted + torch.tensor(config.mean)[:, None, None]
        found = decode(
            file, 3, config.input_size[1:], crop_pct=config.crop.crop_pct, interpolation=config.crop.interpolation
        )
        assert float((found - wanted).abs().max()) <= 2 * LEVEL, name


def test_every_torchvision_classifier_is_scaled_to_its_own_side() -> None:
    import torchvision

    for name in torchvision_names():
        preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        config = torchvision_defaults(name)
        assert config.crop is not None
        side = max(int(preset.resize_size[0]), int(preset.crop_size[0]))
        assert Resize(config.input_size[1:], config.crop.crop_pct).scaled == (side, side), name


def test_a_picture_of_the_size_is_taken_as_it_is(tmp_path: Path) -> None:
    file = picture(tmp_path / "p.png", 64, 64)
    pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    assert torch.equal(decode(file, 3, (64, 64), crop_pct=0.875, interpolation="bicubic"), pixels)


def test_what_a_description_says_of_pictures() -> None:
    def crop(**config: object) -> tuple[float, str, int] | None:
        found = timm_description(config).crop
        return None if found is None else (found.crop_pct, found.interpolation, len(found.notes))

    assert crop() is None
    assert crop(crop_pct=0.9, interpolation="bilinear") == (0.9, "bilinear", 0)
    assert crop(crop_pct=0.9) == (0.9, "bicubic", 0)  # timm's own defaults where half is said
    assert crop(interpolation="bilinear") == (0.875, "bilinear", 0)
    assert crop(crop_pct=1, interpolation="lanczos") == (1.0, "bicubic", 1)
    assert crop(crop_pct=1, interpolation="bicubic", crop_mode="squash") == (1.0, "bicubic", 1)
    for bad in (0.01, 1.5, float("nan"), "half"):
        with pytest.raises(ValueError, match=r"crop_pct|half"):
            crop(crop_pct=bad)


def test_the_set_says_how_pictures_were_made(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "pics" / label).mkdir(parents=True)
        picture(tmp_path / "pics" / label / "0.png", 80, 100)
    plain = reference.load(f"{tmp_path}/pics", size=(64, 64))
    cut = reference.load(f"{tmp_path}/pics", size=(64, 64), crop_pct=0.875, interpolation="bicubic")
    assert plain.resize == Resize((64, 64))
    assert cut.resize == Resize((64, 64), 0.875, "bicubic")
    assert not plain.warnings
    assert [line for line in cut.warnings if "scaled to 73x73 (bicubic)" in line and "crop_pct 0.875" in line]
    assert plain.fingerprint != cut.fingerprint
    assert reference.load("digits").resize is None
