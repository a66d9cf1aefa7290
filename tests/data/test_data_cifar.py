"""CIFAR, binary and python; pickles that mean harm."""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest
import torch

from advkit.data.reference import load
from advkit.data.safe_pickle import read_dict
from advkit.files.errors import InputError

RANDOM = np.random.default_rng(3)
PIXELS = RANDOM.integers(0, 256, (5, 3072), np.uint8)


def records(labels, pixels=PIXELS, coarse=None) -> bytes:
    heads = [np.array(column, np.uint8)[:, None] for column in ((coarse, labels) if coarse else (labels,))]
    return np.concatenate([*heads, pixels], axis=1).tobytes()


def test_binary_training_batches_follow_each_other(tmp_path):
    for k in (1, 2, 3):
        (tmp_path / f"data_batch_{k}.bin").write_bytes(records([k] * 5, PIXELS ^ np.uint8(k)))
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    found = load(str(tmp_path), role="train")
    assert found.class_names == tuple("abcdefghij")
    assert found.targets.tolist() == [1] * 5 + [2] * 5 + [3] * 5
    images, _ = found.batch(torch.tensor([12, 0, 6]))
    expected = np.stack([PIXELS[2] ^ 3, PIXELS[0] ^ 1, PIXELS[1] ^ 2]).reshape(3, 3, 32, 32)
    assert torch.equal((images * 255).round().to(torch.uint8), torch.tensor(expected))


def test_binary_hundred_uses_fine_labels(tmp_path):
    (tmp_path / "test.bin").write_bytes(records([99, 0, 5, 42, 7], coarse=[1, 2, 3, 4, 5]))
    for ref in (tmp_path, tmp_path / "test.bin"):
        found = load(str(ref))
        assert (found.num_classes, found.targets.tolist(), found.split) == (100, [99, 0, 5, 42, 7], "test")
        assert torch.equal(found.batch(slice(1))[0].flatten(), torch.tensor(PIXELS[0]) / 255.0)


@pytest.mark.parametrize("cut", [0, 1, 3072, 3073 * 3 + 1, 3073 * 5 - 1])
def test_binary_cut_short(cut, tmp_path, refused):
    (tmp_path / "test_batch.bin").write_bytes(records([0] * 5)[:cut])
    refused(tmp_path, "test_batch.bin", "copy it again")


def test_binary_label_out_of_range(tmp_path, refused):
    (tmp_path / "test_batch.bin").write_bytes(records([0, 1, 2, 10, 4]))
    refused(tmp_path, "label 10", "10 classes")


def test_both_sets_in_one_directory(tmp_path, refused):
    (tmp_path / "test_batch.bin").write_bytes(records([0] * 5))
    (tmp_path / "test.bin").write_bytes(records([0] * 5, coarse=[0] * 5))
    refused(tmp_path, "CIFAR-10 and CIFAR-100")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("keys", [str, str.encode])
def test_python_in_every_protocol(protocol, order, keys, tmp_path):
    batch = {keys("data"): np.asarray(PIXELS, order=order), keys("labels"): [3, 1, 4, 1, 5], keys("batch_label"): b"1"}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=protocol))
    found = load(str(tmp_path))
    assert found.targets.tolist() == [3, 1, 4, 1, 5]
    assert found.class_names[3] == "cat"
    assert torch.equal(found.batch(slice(None))[0], torch.tensor(PIXELS).view(5, 3, 32, 32) / 255.0)


def test_python_two_wrote_the_published_files(tmp_path):
    """Python 2's way of naming and storing an array, opcode by opcode as in the published batches."""
    data = PIXELS.tobytes()
    text = (
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x05M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<i", len(data)) + data + b"tbU\x06labels](K\x03K\x01K\x04K\x01K\x05eu."
    )
    (tmp_path / "test_batch").write_bytes(text)
    found = load(str(tmp_path))
    assert torch.equal(found.batch(slice(None))[0], torch.tensor(PIXELS).view(5, 3, 32, 32) / 255.0)


def test_python_hundred_and_names(tmp_path):
    batch = {b"data": PIXELS, b"fine_labels": np.array([99, 0, 5, 42, 7], ">i8"), b"coarse_labels": [0] * 5}
    (tmp_path / "train").write_bytes(pickle.dumps(batch, protocol=2))
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"n%d" % k for k in range(100)]}, protocol=2))
    found = load(str(tmp_path))
    assert (found.split, found.targets.tolist(), found.class_names[42]) == ("train", [99, 0, 5, 42, 7], "n42")


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


HOSTILE = {
    "system": lambda file: Calls(os.system, f"touch {file}"),
    "open": lambda file: Calls(open, str(file), "w"),
    "eval": lambda file: Calls(eval, f"open({str(file)!r}, 'w')"),
    "a forged pointer": lambda _: Calls(np.ndarray, (1,), "O", b"A" * 8),
    "objects": lambda file: np.array([Calls(open, str(file), "w")], dtype=object),
    "numpy.load": lambda file: Calls(np.load, str(file), None, True),
    "a subclass": lambda _: np.ma.masked_array([1, 2], [0, 1]),
    "floats": lambda _: np.zeros(3),
    "bytes without end": lambda _: Calls(bytes, 1 << 40),
    "a codec": lambda _: Calls(__import__("_codecs").encode, "x", "idna"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_run_nothing(name, protocol, tmp_path, refused):
    file, mark = tmp_path / "test_batch", tmp_path / "pwned"
    file.write_bytes(pickle.dumps({b"data": HOSTILE[name](mark), b"labels": [0]}, protocol=protocol))
    refused(tmp_path, str(file), "nothing in it was run")
    assert not mark.exists()


def test_the_hostile_pickle_would_have_worked(tmp_path):
    mark = tmp_path / "pwned"
    pickle.loads(pickle.dumps(HOSTILE["open"](mark))).close()
    assert mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b"abc.",  # a bytearray of 64 GiB
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 36) + b"abc.",  # bytes of 64 GiB
        b"\x80\x02Nr\xff\xff\xff\xff.",  # a memo of 2^32 places (64 GiB in C's unpickler)
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",  # a frame
        b"\x80\x02]" + b"(" * 100_000 + b".",
        b"\x80\x02\x82\x01.",  # an extension code
        b"\x80\x02U\x01aQ.",  # a persistent id
        b"",
        b"\x80",
        b"not a pickle",
        pickle.dumps([1, 2]),
    ],
)
def test_pickles_that_lie_about_sizes_or_hold_something_else(text, tmp_path, refused):
    (tmp_path / "test_batch").write_bytes(text)
    refused(tmp_path, "test_batch")


def test_pickles_cut_at_every_place_and_with_any_byte_changed(tmp_path):
    whole = pickle.dumps({b"data": PIXELS[:1, :6], b"labels": [1]}, protocol=2)
    file = tmp_path / "batch"
    for place in range(len(whole)):
        file.write_bytes(whole[:place])
        with pytest.raises(InputError, match="batch"):
            read_dict(file)
        for bit in (1, 64, 255):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                found = read_dict(file)
            except InputError:
                continue
            assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({b"data": PIXELS}, "labels"),
        ({b"labels": [1] * 5}, "data"),
        ({b"data": PIXELS, b"labels": [1] * 4}, "5 images but 4 labels"),
        ({b"data": PIXELS, b"labels": [1, 2, 3, 4, 10]}, "label 10"),
        ({b"data": PIXELS, b"labels": [1, 2, 3, 4, -1]}, "class numbers"),
        ({b"data": PIXELS, b"labels": [1, 2, 3, 4, 2**70]}, "class numbers"),
        ({b"data": PIXELS, b"labels": [b"a"] * 5}, "class numbers"),
        ({b"data": PIXELS, b"labels": 5}, "class numbers"),
        ({b"data": PIXELS[:, :100], b"labels": [1] * 5}, "3072"),
        ({b"data": PIXELS.astype(np.int16), b"labels": [1] * 5}, "uint8"),
        ({b"data": PIXELS[:0], b"labels": []}, "no images"),
    ],
)
def test_python_batches_that_do_not_fit(batch, words, tmp_path, refused):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    refused(tmp_path, words)
