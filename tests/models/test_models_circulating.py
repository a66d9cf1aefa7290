"""Weights for CIFAR-10 that others trained and pass around: they classify here as they do there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from advkit.models.fuse import fuse_conv_bn
from advkit.models.reference import load

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
CIRCULATING = SHARED / "weights" / "cifar10-resnet"


@pytest.fixture(scope="module")
def cifar_test() -> tuple[torch.Tensor, torch.Tensor]:
    """The first 1,000 test images of CIFAR-10 and their labels."""
    if not (SHARED / "unpack.py").is_file():
        pytest.skip("CIFAR-10 is not at ../shared/data")
    spec = importlib.util.spec_from_file_location("unpack", SHARED / "unpack.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    records = torch.frombuffer(bytearray(module.records(50, 51)), dtype=torch.uint8).view(-1, 3073)
    return records[:, 1:].view(-1, 3, 32, 32).float() / 255, records[:, 0].long()


@pytest.mark.skipif(not CIRCULATING.is_dir(), reason="the circulating CIFAR-10 weights are not at ../shared/data")
@pytest.mark.parametrize(
    ("name", "file", "correct"),
    [("resnet20", "resnet20-12fca82f.th", 915), ("resnet44", "resnet44-014dd654.th", 933)],
)
def test_circulating_weights_classify_as_measured_elsewhere(cifar_test, name, file, correct):
    images, labels = cifar_test
    network = load(f"advkit/{name}@{CIRCULATING / file}", num_classes=10, input_size=(3, 32, 32))
    quick = fuse_conv_bn(network)
    with torch.no_grad():
        torch.testing.assert_close(quick(images[:64]), network(images[:64]), rtol=0, atol=5e-5)
        found = sum(int((quick(x).argmax(1) == y).sum()) for x, y in zip(images.split(250), labels.split(250)))  # noqa: B905
    assert abs(found - correct) <= 1  # an image on the boundary may fall either way with other kernels
