"""safetensors as data: what ``attack`` writes, and damaged files."""

from __future__ import annotations

import json

import pytest
import torch

from advkit.data.reference import load
from advkit.files.adversarial import AdversarialWriter, adversarial_metadata
from advkit.files.errors import InputError
from advkit.files.tensors import write_tensors
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited

IMAGES = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([2, 0, 1, 1, 0, 2])


def write(path, images=IMAGES, labels=LABELS, metadata="{}", **more):
    file = path / "set.safetensors"
    write_tensors(file, {"images": images, "labels": labels, **more}, metadata)
    return file


@pytest.mark.parametrize("quantized", [False, True])
def test_an_adversarial_set_is_a_data_set(quantized, tmp_path):
    file = tmp_path / "adversarial.safetensors"
    images = (IMAGES * 255).round().to(torch.uint8) if quantized else IMAGES
    index = torch.tensor([9, 4, 7, 1, 0, 30])
    said = adversarial_metadata(class_names=("cat", "dog", "eel", "fox"), data={}, surrogates=[], attack={})
    with AdversarialWriter(file, 6, (3, 4, 5), said, quantized=quantized) as out:
        for rows in (slice(0, 4), slice(4, 6)):
            numbers = dict.fromkeys(("labels", "target", "prediction", "outcome"), LABELS[rows])
            out.append(images[rows], index=index[rows], **numbers)
    found = load(str(file))
    assert found.class_names == ("cat", "dog", "eel", "fox")
    assert found.indices.tolist() == index.tolist()
    assert found.subset(torch.tensor([5, 2])).indices.tolist() == [30, 7]
    assert torch.allclose(found.batch(slice(None))[0], IMAGES, atol=0.5 / 255 if quantized else 0.0)
    assert torch.equal(found.batch(torch.tensor([4, 1, 5]))[0], found.batch(slice(None))[0][[4, 1, 5]])
    some = limited(CLASSIFICATION, load(str(file)), 3, 0)
    assert torch.equal(some.indices, index[some.rows])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width(kind, tmp_path):
    found = load(str(write(tmp_path, IMAGES.to(kind))))
    images, _ = found.batch(slice(None))
    assert images.dtype == torch.float32
    assert torch.equal(images, IMAGES.to(kind).float())


NAN = IMAGES.clone()
NAN[5, 1, 2, 3] = torch.nan


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"images": NAN}, "NaN"),
        ({"images": IMAGES * 2}, "[0, 1]"),
        ({"images": IMAGES.long()}, "uint8"),
        ({"images": IMAGES[:, :2]}, "(N, 1 or 3, H, W)"),
        ({"images": IMAGES[:, :, :0]}, "(N, 1 or 3, H, W)"),
        ({"images": IMAGES[:, 0]}, "(N, 1 or 3, H, W)"),
        ({"images": torch.tensor(0.5)}, "single number"),
        ({"labels": LABELS[:5]}, "6 images but 5 labels"),
        ({"labels": LABELS.float()}, "integers"),
        ({"labels": LABELS - 1}, "-1"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no images"),
        ({"index": torch.tensor([0, 1, 2, 3, 4, 4])}, "stands twice"),
        ({"index": torch.tensor([0, 1, 2, 3, 4, -4])}, "index -4"),
        ({"index": torch.arange(5)}, "(index)"),
        ({"metadata": json.dumps({"class_names": ["a", "b"]})}, "label 2, but there are 2 classes"),
    ],
)
def test_tensors_that_are_no_data_set(tensors, words, tmp_path, refused):
    refused(write(tmp_path, **tensors), "set.safetensors", words)


@pytest.mark.parametrize("metadata", ["", "[", "[]", '{"class_names": 5}', "[" * 100_000])
def test_metadata_of_somebody_else(metadata, tmp_path):
    assert load(str(write(tmp_path, metadata=metadata))).class_names == ("0", "1", "2")


def test_weights_are_no_data(tmp_path, refused):
    write_tensors(tmp_path / "w.safetensors", {"fc.weight": torch.zeros(2, 2)}, "{}")
    refused(tmp_path / "w.safetensors", "holds fc.weight")


def test_cut_at_every_place(tmp_path):
    file = write(tmp_path, IMAGES[:2], LABELS[:2])
    text = file.read_bytes()
    for place in range(0, len(text), 7):
        file.write_bytes(text[:place])
        with pytest.raises(InputError, match=r"set\.safetensors"):
            load(str(file))
