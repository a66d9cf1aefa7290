"""Sets by name, through torchvision's classes: small files of each form, none fetched."""

from __future__ import annotations

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
import torchvision

from advkit.data import torchvision_datasets
from advkit.data.reference import load

PIXELS = np.random.default_rng(6).integers(0, 256, (4, 28, 28), np.uint8)


@pytest.mark.parametrize("name", torchvision_datasets.NAMES)
def test_missing_sets_say_how_to_get_them(name, tmp_path, refused):
    refused(f"{name}:{tmp_path}", f"{name}:{tmp_path}", "--download")


@pytest.mark.parametrize("name", torchvision_datasets.NAMES)
def test_download_reaches_torchvision_and_its_output_leaves_stdout_alone(name, tmp_path, refused, monkeypatch, capsys):
    class_name, choices = torchvision_datasets._SETS[name]
    asked = []

    def opened(root, download, **choice):
        asked.append((root, download, choice))
        print("Downloading")
        raise RuntimeError("no\nnetwork")

    monkeypatch.setattr(torchvision.datasets, class_name, opened)
    refused(f"{name}:{tmp_path}#train", "no network", "check the network", download=True)
    assert asked == [(str(tmp_path), True, choices["train"])]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_forms(name, folder, tmp_path, refused):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for part, last in (("train", 3), ("t10k", 9)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 4, 28, 28) + PIXELS.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 4) + bytes([0, 1, 2, last]))
    test, train = load(f"{name}:{tmp_path}"), load(f"{name}:{tmp_path}", role="train")
    assert (test.split, test.targets.tolist(), train.targets.tolist()) == ("test", [0, 1, 2, 9], [0, 1, 2, 3])
    assert (test.num_classes, test.size) == (10, (1, 28, 28))
    assert torch.equal(test.batch(slice(None))[0][:, 0], torch.tensor(PIXELS) / 255.0)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 4) + bytes([0, 1, 2, 77]))
    refused(f"{name}:{tmp_path}", "label 77", "10 classes")


@pytest.mark.parametrize(("name", "key", "classes"), [("cifar10", "labels", 10), ("cifar100", "fine_labels", 100)])
def test_cifar_forms(name, key, classes, tmp_path, monkeypatch, refused):
    kind = torchvision.datasets.CIFAR10 if classes == 10 else torchvision.datasets.CIFAR100
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(7).integers(0, 256, (4, 3072), np.uint8)
    last = classes - 1
    names = {kind.meta["key"]: [f"n{k}" for k in range(classes)]}
    sums = {}
    for file, content in (("batch", {"data": pixels, key: [0, 1, 2, last]}), (kind.meta["filename"], names)):
        text = pickle.dumps(content)
        (folder / file).write_bytes(text)
        sums[file] = hashlib.md5(text).hexdigest()
    monkeypatch.setattr(kind, "train_list", [])
    monkeypatch.setattr(kind, "test_list", [["batch", sums["batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})
    found = load(f"{name}:{tmp_path}")
    assert (found.targets.tolist(), found.class_names[last]) == ([0, 1, 2, last], f"n{last}")
    assert torch.equal(found.batch(slice(None))[0], torch.tensor(pixels).view(4, 3, 32, 32) / 255.0)
    # A file without the published checksum is never unpickled.
    (folder / "batch").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR.")
    refused(f"{name}:{tmp_path}", "--download")
    assert not (tmp_path / "pwned").exists()


def test_svhn_form(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io", reason="SVHN's files are MATLAB's")
    pixels = np.random.default_rng(8).integers(0, 256, (32, 32, 3, 4), np.uint8)
    scipy_io.savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [2], [10], [9]], np.uint8)})
    digest = hashlib.md5((tmp_path / "test_32x32.mat").read_bytes()).hexdigest()
    kind = torchvision.datasets.SVHN
    monkeypatch.setattr(kind, "split_list", {"test": ["", "test_32x32.mat", digest]})
    found = load(f"svhn:{tmp_path}#test")
    assert found.targets.tolist() == [1, 2, 0, 9]  # the file's 10 is the digit 0
    assert torch.equal(found.batch(slice(None))[0], torch.tensor(pixels.transpose(3, 2, 0, 1)) / 255.0)
