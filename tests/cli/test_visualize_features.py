"""``visualize features``: what a pair of networks gives back, and what raises the score of a class or of a box."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executable import Run, done, one_line
from PIL import Image

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.look = nn.Identity()
        self.seen = seen
        self.head = nn.Linear(1, 2)
        self.head.weight.data = torch.tensor([[-20.0], [20.0]])  # dark is class 0, bright class 1
        self.head.bias.data = torch.tensor([10.0, -10.0])

    def forward(self, x):
        maps = self.look(x[..., : self.seen])
        return self.head(maps.mean((1, 2, 3))[:, None])

def whole():
    return Net(8)

def left():
    return Net(4)
"""


def result_of(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside("visualize", "features", *arguments, "-q")
    assert found.returncode == 0, found.stderr
    result: dict[str, Any] = json.loads(found.stdout)["result"]
    return result


@pytest.fixture
def pair(tmp_path: Path) -> list[str | Path]:
    """Two networks of which one sees all of an image and the other its left half, and six images."""
    (tmp_path / "nets.py").write_text(NETS)
    generator = np.random.default_rng(0)
    labels = np.arange(6) % 2
    pixels = generator.uniform(-0.25, 0.25, (6, 1, 8, 8)) + np.where(labels, 0.7, 0.3)[:, None, None, None]
    np.savez(tmp_path / "six.npz", images=pixels.astype(np.float32), labels=labels)
    whole, left = (f"{name}={tmp_path}/nets.py:{name}" for name in ("whole", "left"))
    return [whole, left, "--data", tmp_path / "six.npz", "--figure", tmp_path / "f.png"]


def test_of_a_pair_each_gives_back_what_it_sees(inside: Run, pair: list[str | Path]) -> None:
    result = result_of(inside, *pair, "--layer", "look", "--show", "inversion", "--count", "6")
    assert result["layers"] == {"whole": "look", "left": "look"}
    assert result["kinds"] == ["inversion"]
    whole, left = result["summaries"]
    assert (whole["model"], whole["pictures"], whole["counted"]) == ("whole", 6, 6)
    for one in (whole, left):
        assert one["mean_end"] < 1e-3 < 0.1 < one["mean_start"]
    assert whole["mean_correlation"] > 0.99
    assert left["mean_correlation"] < 0.9, "the right half is noise"
    assert whole["recognised_by"] == {"whole": 6, "left": 6}
    assert left["recognised_by"]["left"] == 6
    # Half of the picture is a grey of 0.5: it is nearer to the threshold, on the right side of it.
    for image in result["images"]:
        assert image["label"] == image["index"] % 2
        assert image["objects"] is None
        assert [picture["model"] for picture in image["pictures"]] == ["whole", "left"]
    for key in ("start", "end", "correlation"):
        values = [image["pictures"][0][key] for image in result["images"]]
        assert whole[f"mean_{key}"] == pytest.approx(sum(values) / 6)


@pytest.mark.parametrize(
    ("command", "own", "others"),
    [("attention", "VisualizeResult", "FeaturesResult"), ("features", "FeaturesResult", "VisualizeResult")],
)
def test_a_schema_is_of_one_command_s_report(command: str, own: str, others: str, inside: Run) -> None:
    schema = json.loads(inside("--schema", f"visualize {command}").stdout)
    assert schema["$id"] == f"advkit/visualize/1/{command}"
    assert schema["properties"]["result"] == {"$ref": f"#/$defs/{own}"}
    assert others not in schema["$defs"]
    both = json.loads(inside("--schema", "visualize").stdout)
    assert {own, others} <= set(both["$defs"])
    assert "no such tool" in one_line(inside("--schema", f"visualize {command}s"))


def test_a_ball_bounds_the_logit_as_the_weights_say(inside: Run, pair: list[str | Path]) -> None:
    """The logit is 20 times the mean of 64 or 32 values: eps along its gradient adds 20 eps over the root of those."""
    more = ["--show", "maximisation", "--start", "image", "--eps", "0.1", "--count", "2"]
    result = result_of(inside, *pair, *more)
    for image in result["images"]:
        whole, left = image["pictures"]
        assert whole["end"] - whole["start"] == pytest.approx(20 * 0.1 / 8, rel=1e-3)
        assert left["end"] - left["start"] == pytest.approx(20 * 0.1 / 32**0.5, rel=1e-3)


def test_maximisation_makes_noise_the_class(inside: Run, pair: list[str | Path]) -> None:
    result = result_of(inside, *pair, "--show", "maximisation", "--count", "6", "--eps", "8")
    for one in result["summaries"]:
        assert one["recognised_by"][one["model"]] == 6
        assert one["mean_start"] == pytest.approx(0.0, abs=0.5), "20 times 0.5, less 10"
        assert one["mean_end"] == pytest.approx(10.0, abs=0.1), "all dark, or all bright"


def test_equal_runs_draw_equal_bytes_and_no_image_bears_on_another(inside: Run, r: Path, tmp_path: Path) -> None:
    few = [r, "--data", "digits", "--steps", "4"]
    for name in ("a", "b"):
        first = result_of(inside, *few, "--index", "3", "--index", "7", "--figure", tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    alone = result_of(inside, *few, "--index", "7", "--figure", tmp_path / "c.svg")
    assert alone["images"][0] == first["images"][1]
    other = result_of(inside, *few, "--index", "7", "--seed", "1", "--figure", tmp_path / "c.svg")
    assert other["images"][0]["pictures"] != alone["images"][0]["pictures"]


def test_a_layer_that_one_of_the_models_lacks_is_refused_before_anything_is_drawn(
    inside: Run, r: Path, tmp_path: Path
) -> None:
    figure = tmp_path / "f.png"
    found = inside(
        "visualize", "features", r, "advkit/resnet8", "--data", "digits", "--layer", "layer1", "--figure", figure
    )
    line = one_line(found)
    assert "no layer 'layer1'" in line
    assert str(r) in line
    assert not figure.exists()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """A fresh detector, and two images of different sizes with an object, one without."""
    folder = tmp_path_factory.mktemp("yolo")
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for k, size in enumerate([(96, 96), (60, 130), (96, 96)]):
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(folder / "images" / f"{k}.png")
        (folder / "labels" / f"{k}.txt").write_text("1 0.5 0.5 0.5 0.25\n" if k < 2 else "")
    (folder / "classes.txt").write_text("cat\ndog\n")
    model = folder / "d.safetensors"
    done("train", "--arch", "advkit/tiny-ssd", "--data", folder, "--epochs", "0", "-q", "-o", model)
    return [f"D={model}", "--data", folder]


def test_the_score_of_a_detectors_box_rises(inside: Run, detector: list[str | Path], tmp_path: Path) -> None:
    figure = tmp_path / "f.png"
    result = result_of(inside, *detector, "--figure", figure, "--steps", "6")
    assert figure.stat().st_size > 10_000
    assert result["layers"] == {"D": "backbone"}
    for image in result["images"][:2]:
        rebuilt, raised = image["pictures"]
        assert rebuilt["kind"] == "inversion"
        assert rebuilt["end"] < rebuilt["start"]
        assert raised["start"] + 0.05 < raised["end"] <= 0.0, "logs of scores"
        assert [box["label"] for box in image["objects"]] == ["dog"]
    empty = result["images"][2]
    assert empty["objects"] == []
    assert (empty["pictures"][1]["start"], empty["pictures"][1]["end"]) == (None, None)
    assert empty["pictures"][0]["end"] < empty["pictures"][0]["start"]
    raised = result["summaries"][1]
    assert (raised["pictures"], raised["counted"]) == (3, 2)
    alone = result_of(inside, *detector, "--figure", figure, "--steps", "6", "--index", "1")
    assert alone["images"][0] == result["images"][1], "neither batch-mates nor the canvas matter"


def test_the_reported_score_is_the_detectors_own(inside: Run, detector: list[str | Path], tmp_path: Path) -> None:
    from advkit.data.boxes import stacked
    from advkit.models import reference

    more = ["--figure", tmp_path / "f.png", "--steps", "1", "--start", "image", "--show", "maximisation"]
    (raised,) = result_of(inside, *detector, *more, "--index", "1")["images"][0]["pictures"]
    network = reference.load(str(detector[0]).partition("=")[2])
    image = torch.from_numpy(np.array(Image.open(Path(detector[2]) / "images/1.png"))).permute(2, 0, 1) / 255
    target = stacked([torch.tensor([[130 / 4, 60 * 3 / 8, 130 * 3 / 4, 60 * 5 / 8, 1, 0.0]])])
    with torch.no_grad():
        assert raised["start"] == pytest.approx(float(network(image[None]).object_scores(target)), rel=1e-4)
