"""What attack writes as PNGs is read again with the names and numbers that it had."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from advkit.data.reference import load
from advkit.files.errors import InputError
from advkit.files.image_folder import image_folder

NAMES = ("zebra", "10", "2", "", "../up", "a/b", "train", ".x", "été", "zebra!", "A", "a")


@pytest.fixture
def written(tmp_path):
    pixels = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with image_folder(tmp_path / "adv", {"class_names": NAMES}, force=False) as folder:
        folder.append(pixels[:2], labels=torch.tensor([4, 0]), index=torch.tensor([3, 9]))
        folder.append(pixels[2:], labels=torch.tensor([11, 0, 2]), index=torch.tensor([11, 12, 1_000_000]))
    return tmp_path / "adv", pixels


def test_names_numbers_order_and_identities_survive(written):
    path, pixels = written
    found = load(str(path))
    assert found.class_names == NAMES
    assert found.targets.tolist() == [4, 0, 11, 0, 2]
    assert found.indices.tolist() == [3, 9, 11, 12, 1_000_000]
    assert torch.equal(found.batch(slice(None))[0], pixels / 255.0)
    assert found.warnings == ()
    assert "are read in grey" in load(str(path), channels=1).warnings[0]
    assert sorted(child.name for child in path.iterdir()) == [*(f"{k:02}" for k in range(12)), "advkit.json"]


def test_such_a_folder_may_be_replaced(written):
    path, pixels = written
    with image_folder(path, {"class_names": ("a", "b")}, force=True) as folder:
        folder.append(pixels[:1], labels=torch.tensor([1]), index=torch.tensor([0]))
    assert load(str(path)).class_names == ("a", "b")
    (path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds notes\.txt"), image_folder(path, {"class_names": ("a",)}, force=True):
        pass


def replaced(path):
    with image_folder(path, {"class_names": ("a", "b")}, force=True) as folder:
        folder.append(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), labels=torch.tensor([1]), index=torch.tensor([0]))


@pytest.mark.parametrize("failing", [0, 1])
def test_a_folder_that_cannot_be_replaced_stays(failing, written, monkeypatch):
    path, pixels = written
    calls, rename = [], Path.rename

    def full(self, target):
        calls.append(target)
        if len(calls) == failing + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InputError, match="the file is as it was"):
        replaced(path)
    assert torch.equal(load(str(path)).batch(slice(None))[0], pixels / 255.0)
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_what_killed_runs_left_is_deleted_or_put_back(written):
    path, pixels = written
    orphan = path.with_name(f".{path.name}.0123abcd.tmp")
    (orphan / "pictures").mkdir(parents=True)
    path.rename(orphan / "old")  # killed between the two renames
    other = path.with_name(".other.0123abcd.tmp")
    other.mkdir()
    with (
        pytest.raises(InputError, match="stop"),
        image_folder(path.with_name("adv"), {"class_names": ("a", "b")}, force=True),
    ):
        raise InputError("stop")
    assert torch.equal(load(str(path)).batch(slice(None))[0], pixels / 255.0)
    assert sorted(child.name for child in path.parent.iterdir()) == [other.name, path.name]


def test_a_folder_in_use_is_left_alone(written):
    path, _ = written
    with image_folder(path, {"class_names": ("a", "b")}, force=True) as folder:
        folder.append(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), labels=torch.tensor([0]), index=torch.tensor([0]))
        replaced(path)
    assert load(str(path)).targets.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "not what attack writes"),
        ('{"spec": "advkit/image-folder/9", "class_names": ["a"]}', "not what attack writes"),
        ('{"spec": "advkit/image-folder/1", "class_names": ["a", 1]}', "not what attack writes"),
        ('{"spec": "advkit/image-folder/1", "class_names": ["a", "b"]}', "does not belong to its 2 folders"),
        (json.dumps({"spec": "advkit/image-folder/1", "class_names": ["\ud800"] * 12}), "no UTF-8"),
    ],
)
def test_sidecars_that_lie(text, words, written, refused):
    (written[0] / "advkit.json").write_text(text)
    refused(written[0], words)


def test_pictures_added_by_hand(written, refused):
    path, _ = written
    Image.new("RGB", (8, 8)).save(path / "03" / "mine.png")
    refused(path, "mine.png", "not a number")
    (path / "03" / "mine.png").rename(path / "03" / "000009.png")
    refused(path, "an index stands twice")
