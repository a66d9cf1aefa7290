"""The sets of the field as they are in the world; skipped where they are not at hand."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from advkit.data.reference import load
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited


@pytest.fixture(scope="module")
def cifar(shared, tmp_path_factory):
    """CIFAR-10's official binary files: one training batch (its MD5 is checked) and the first 1,000 test images."""
    script = shared / "unpack.py"
    if not script.is_file():
        pytest.skip(f"no {script}")
    folder = tmp_path_factory.mktemp("cifar")
    command = [sys.executable, str(script), str(folder), "--train-batches", "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder / "cifar-10-batches-bin"


def present(folder):
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def test_cifar10(cifar):
    test, train = load(str(cifar)), load(str(cifar), role="train")
    assert (len(test), len(train), test.size, test.num_classes) == (1000, 10_000, (3, 32, 32), 10)
    assert [test.class_names[k] for k in test.targets[:6]] == ["cat", "ship", "ship", "airplane", "frog", "frog"]
    assert [train.class_names[k] for k in train.targets[:3]] == ["frog", "truck", "truck"]
    images, _ = train.batch(slice(None))
    # What the field normalises with, measured on all 50,000: .4914 .4822 .4465, .2470 .2435 .2616
    assert torch.allclose(images.mean(dim=(0, 2, 3)), torch.tensor([0.4914, 0.4822, 0.4465]), atol=3e-3)
    assert torch.allclose(images.std(dim=(0, 2, 3)), torch.tensor([0.2470, 0.2435, 0.2616]), atol=3e-3)


def test_cifar10_sample_is_the_same_images(cifar):
    whole, some = load(f"{cifar}#train"), limited(CLASSIFICATION, load(f"{cifar}#train"), 50, 3)
    assert torch.bincount(some.targets).sum() == 50
    assert torch.equal(some.batch(slice(None))[0], whole.batch(some.indices)[0])


def test_mnist(shared):
    folder = present(shared / "mnist")
    test, train = load(str(folder)), load(str(folder), role="train")
    assert (len(test), len(train), test.size) == (10_000, 60_000, (1, 28, 28))
    assert test.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert torch.bincount(train.targets).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    images, _ = train.batch(slice(0, 10_000))
    assert float(images.mean()) == pytest.approx(0.1307, abs=2e-3)
    assert limited(CLASSIFICATION, load(str(folder), channels=3), 4, 0).batch(slice(None))[0].shape == (4, 3, 28, 28)


def test_usps_and_mnist_m(shared):
    usps, mnist_m = present(shared / "usps"), present(shared / "mnist-m")
    assert (len(load(str(usps))), len(load(f"{usps}#train")), load(str(usps)).size) == (2007, 7291, (1, 16, 16))
    assert (len(load(str(mnist_m))), len(load(f"{mnist_m}#train")), load(str(mnist_m)).size) == (
        1000,
        4000,
        (3, 32, 32),
    )
    assert load(str(usps)).num_classes == load(str(mnist_m)).num_classes == 10


def test_pacs_is_four_domains_of_the_same_classes(shared, refused):
    folder = present(shared / "pacs64")
    refused(folder, "#photo", "#sketch")
    domains = {name: load(f"{folder}#{name}") for name in ("photo", "art_painting", "cartoon", "sketch")}
    assert {name: len(found) for name, found in domains.items()} == {
        "photo": 1670, "art_painting": 2048, "cartoon": 2344, "sketch": 3929
    }  # fmt: skip
    assert {found.class_names for found in domains.values()} == {
        ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    }
    alone = limited(CLASSIFICATION, load(str(folder / "photo")), 14, 0)
    images, _ = alone.batch(slice(None))
    assert torch.equal(images, domains["photo"].batch(alone.indices)[0])
    assert images.shape == (14, 3, 64, 64)
    sketch = limited(CLASSIFICATION, load(f"{folder}#sketch"), 28, 0).batch(slice(None))[0]
    assert sketch.mean() > 0.8 > images.mean()  # pencil on white paper
