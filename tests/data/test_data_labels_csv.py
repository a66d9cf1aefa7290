"""Pictures in one folder, their classes in a CSV."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from advkit.data.reference import load
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited


@pytest.fixture
def flat(tmp_path):
    """Pictures 0.png… in ``place``, told apart by their red, and a CSV of ``rows``."""

    def write(rows: str, *, place: str = "", count: int = 3, name: str = "images.csv"):
        (tmp_path / place).mkdir(exist_ok=True)
        for k in range(count):
            Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / place / f"{k}.png")
        (tmp_path / name).write_text("\n".join(row.strip() for row in rows.split(";")) + "\n", encoding="utf-8-sig")
        return tmp_path

    return write


COMPETITION = "ImageId,URL,TrueLabel,TargetClass,Author; 2,http://x,1000,7,'a'; 0,http://x,1,1000,b; 1,http://x,8,2,c"


@pytest.mark.parametrize("place", ["", "images"])
@pytest.mark.parametrize("ref", ["", "images.csv"])
def test_the_competition_counts_from_one(place, ref, flat):
    found = load(str(flat(COMPETITION, place=place) / ref))
    assert found.targets.tolist() == [999, 0, 7]
    assert found.target_classes.tolist() == [6, 999, 1]
    assert found.target_classes.dtype == torch.int64
    assert found.class_names == tuple(str(k) for k in range(1000))
    assert (found.batch(slice(None))[0][:, 0, 0, 0] * 255).round().tolist() == [2, 0, 1]
    assert found.indices.tolist() == [0, 1, 2]
    (warning,) = found.warnings
    for words in ("count from 1", "NIPS 2017", "1000 occurs", "1 is class 0"):
        assert words in warning


def test_target_classes_stay_with_their_images(flat):
    rows = "; ".join(f"{k}.png,{k % 2},{(k + 3) % 10}" for k in range(10))
    path = str(flat(f"filename,label,target; {rows}", count=10))
    some = limited(CLASSIFICATION, load(path), 4, 3)
    assert some.target_classes.tolist() == [(k + 3) % 10 for k in some.indices.tolist()]
    part = some.subset(torch.tensor([2, 0]))
    assert part.target_classes.tolist() == [(k + 3) % 10 for k in part.indices.tolist()]
    assert load("digits").target_classes is None
    assert load("digits").subset(torch.tensor([1])).target_classes is None


def test_class_names(flat):
    found = load(str(flat("filename,label,target; 0.png,zebra,ant; 1.png,ant,bee; 2.png,zebra,ant")))
    assert found.class_names == ("ant", "bee", "zebra")
    assert found.targets.tolist() == [2, 0, 2]
    assert found.target_classes.tolist() == [0, 1, 0]
    assert load(str(flat("file_name,label; 0.png,x; 1.png,2; 2.png,x"))).class_names == ("2", "x")


def test_numbers_from_zero(flat):
    found = load(str(flat("filename,label; 0.png,0; 1.png,07; 2.png,3")))
    assert (found.targets.tolist(), found.num_classes, found.warnings) == ([0, 7, 3], 8, ())
    found = load(str(flat("filename,label; 0.png,1; 1.png,7; 2.png,3")))
    assert found.targets.tolist() == [1, 7, 3]
    assert "none is 0" in found.warnings[0]
    assert "TrueLabel" in found.warnings[0]


def test_splits_share_their_classes(flat):
    flat("filename,label; 0.png,a; 1.png,c", name="train.csv")
    path = flat("filename,label; 2.png,b", name="test.csv")
    (path / "categories.csv").write_text("CategoryId,CategoryName\n1,tench\n")
    train, test = (load(f"{path}#{split}") for split in ("train", "test"))
    assert (train.class_names, train.targets.tolist()) == (("a", "b", "c"), [0, 2])
    assert (test.class_names, test.targets.tolist(), test.warnings) == (("a", "b", "c"), [1], ())


def test_files_without_a_row_are_told(flat):
    found = load(str(flat("filename,label; 0.png,0; 2.png,1")))
    assert len(found) == 2
    assert "1 file skipped, not in images.csv, such as 1.png" in found.warnings[0]


def test_class_folders_go_before_a_table_beside_them(flat):
    path = flat("filename,label; ant/0.png,x; bee/0.png,y", count=0)
    for name in ("ant", "bee"):
        (path / name).mkdir()
        Image.new("RGB", (8, 8)).save(path / name / "0.png")
    assert load(str(path)).class_names == ("ant", "bee")
    assert load(str(path / "images.csv")).class_names == ("x", "y")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("ImageId,TrueLabel; 0,0; 1,5; 2,9", ["counts from 1 to 1000, but 0 occurs", "name the column label"]),
        ("ImageId,TrueLabel; 0,3; 1,1001; 2,9", ["1001 occurs"]),
        ("ImageId,TrueLabel; 0,3; 1,cat; 2,9", ["'cat' is no number"]),
        ("filename,label; 0.png,1; 1.png,1000; 2.png,4", ["from 0 or from 1", "TrueLabel if from 1"]),
        ("filename,label; 0.png,0; 1.png,; 2.png,4", ["row 2 has no label"]),
        ("filename,label,target; 0.png,0,1; 1.png,1", ["row 2 has no target"]),
        ("filename,label; 0.png,0; 0.png,1", ["0.png stands twice"]),
        ("filename,label; 0.png,0; 5.png,1", ["1 of its 2 pictures are missing, such as 5.png"]),
        ("filename,label; 0.png,a; 1.png,a", ["one class, a"]),
        ("filename,label", ["no rows"]),
        ("picture,colour; 0.png,1", ["ImageId,TrueLabel or filename,label"]),
    ],
)
def test_tables_that_are_refused(rows, words, flat, refused):
    refused(flat(rows) / "images.csv", "images.csv", *words)


def test_bytes_that_are_no_text(flat, refused):
    path = flat("filename,label; 0.png,0")
    (path / "images.csv").write_bytes(b"filename,label\n0.png,\xe9\n")
    refused(path / "images.csv", "UTF-8")
