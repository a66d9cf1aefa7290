"""``attack --resume``: an interrupted attack goes on, from whichever moment, to the bytes of one that was not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executable import Run, one_line
from torch import nn

from advkit.attacks import dataset, resume_folder
from advkit.files.errors import InputError

# Its forward pass number STOP_AT is interrupted; what it counts lies beside it.
NET = """
from pathlib import Path

import torch
from torch import nn


class Net(nn.Sequential):
    passes = 0

    def forward(self, images):
        Net.passes += 1
        Path("passes").write_text(str(Net.passes))
        if Path("stop").exists() and Net.passes == int(Path("stop").read_text()):
            raise KeyboardInterrupt
        return super().forward(images)


def net():
    torch.manual_seed(0)
    return Net(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
"""
AUTOATTACK = ("--method", "autoattack:steps=3:targets=2:queries=12", "--eps", "0.02")

KEPT = {"0000000-0000024.safetensors", "0000024-0000040.stage.safetensors"}


def write(count: int) -> None:
    """Images that the network is right on: by all its classes, as it sees them."""
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    labels = net(images).argmax(1)
    np.savez("images.npz", images=images.numpy(), labels=labels.numpy(), class_names=[*map(str, range(10))])


@pytest.fixture
def attack(inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``attack OPTIONS``, on two windows of 24 and 16 images, in an empty directory; all that is done is kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resume_folder, "EVERY", 0.0)
    monkeypatch.setattr(dataset, "_WINDOW", 24 * 64 * 4)
    Path("net.py").write_text(NET)
    write(40)

    def run(*options: str | Path, stop: int = 0, quiet: bool = True) -> Any:
        Path("stop").write_text(str(stop))
        return inside(
            "attack", "net.py:net", "--data", "images.npz", "--batch-size", "8", *(["-q"] if quiet else []), *options
        )

    return run


def result(done: Any) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["result"]
    return found | {"attack_seconds": None, "output": None}


@pytest.mark.parametrize(
    ("options", "out"),
    [
        (AUTOATTACK, "a.safetensors"),
        ((*AUTOATTACK, "--quantize"), "pngs"),
        (("--method", "pgd", "--eps", "0.05", "--steps", "4", "--restarts", "2"), "a.safetensors"),
        (("--method", "di", "--eps", "0.05", "--steps", "3", "--goal", "transfer"), "a.safetensors"),
    ],
)
def test_an_attack_goes_on_to_the_same_bytes(options: tuple[str, ...], out: str, attack: Run) -> None:
    Path("whole").mkdir()
    whole = result(attack(*options, "-o", Path("whole") / out))
    passes = int(Path("passes").read_text())
    assert not list(Path("whole").glob("*.resume"))
    kept = 0
    for number, stop in enumerate(range(passes // 3, passes, passes // 4)):
        folder = Path(f"part{number}")
        folder.mkdir()
        stopped = attack(*options, "-o", folder / out, stop=stop)
        assert (stopped.returncode, (folder / out).exists()) == (130, False), stopped.stderr
        left = list(folder.glob("*.resume"))
        resume = ["--resume"] if left else []
        assert stopped.stderr == (
            f"advkit: interrupted: {left[0]} has what was done; go on with --resume\n"
            if left
            else "advkit: interrupted\n"
        )
        again = attack(*options, "-o", folder / out, *resume)
        assert result(again) == whole
        assert [path.name for path in folder.iterdir()] == [out], "what is finished leaves nothing else"
        if left:
            kept += 1
            assert int(Path("passes").read_text()) < passes, "what was done is not done again"
        for path in filter(Path.is_file, [Path("whole") / out, *(Path("whole") / out).rglob("*")]):
            assert path.read_bytes() == (folder / path.relative_to("whole")).read_bytes()
    assert kept >= 2


def stopped_in_the_middle(attack: Run) -> Path:
    """The folder of an attack that was stopped in the second window, after a stage."""
    result(attack(*AUTOATTACK, "-o", "whole.safetensors"))
    passes, folder = int(Path("passes").read_text()), Path("a.resume")
    for stop in range(3 * passes // 4, passes, 3):
        assert attack(*AUTOATTACK, "-o", "a.safetensors", "--force", stop=stop).returncode == 130
        if {path.name for path in folder.iterdir()} == KEPT:
            return folder
    raise AssertionError("it was never in the middle")


def test_what_is_unfinished_is_neither_forgotten_nor_taken_for_another_attack(attack: Run) -> None:
    folder = stopped_in_the_middle(attack)
    assert "go on with --resume, or start anew" in one_line(attack(*AUTOATTACK, "-o", "a.safetensors"))
    other = [*AUTOATTACK[:-1], "0.05", "-o", "a.safetensors", "--resume"]
    assert "another eps (eps: 0.02 there, 0.05 here)" in one_line(attack(*other))
    for more, told in ((["--seed", "1"], "another seed"), (["--batch-size", "7"], "another batch-size or number of")):
        assert told in one_line(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume", *more))
    for change in (("manual_seed(0)", "manual_seed(1)"), ("ReLU", "Tanh")):
        Path("net.py").write_text(NET.replace(*change))
        assert "another models" in one_line(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume"))
    Path("net.py").write_text(NET)
    assert "another mean" in one_line(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume", "--mean", "0.1"))
    write(39)
    assert "data" in one_line(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume"))
    assert {path.name for path in folder.iterdir()} == KEPT
    assert not Path("a.safetensors").exists()
    result(attack(*AUTOATTACK, "-o", "a.safetensors", "--force"))
    assert not folder.exists()


def test_a_damaged_file_of_an_unfinished_attack_is_refused(attack: Run) -> None:
    folder = stopped_in_the_middle(attack)
    path = folder / "0000000-0000024.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-3], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        assert path.name in one_line(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume"))


def test_nothing_to_resume(attack: Run) -> None:
    found = one_line(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume"))
    assert found == "advkit: a.resume: nothing to resume; start without --resume"


def test_the_precision_that_auto_was_goes_on(attack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advkit.commands.attack_options.pick_precision", lambda asked, device: "bfloat16")
    probes = []

    def probe(*arguments: object) -> str:
        probes.append(arguments)
        return "bfloat16"

    monkeypatch.setattr("advkit.attacks.faster_precision.faster_precision", probe)
    options = ["--method", "pgd", "--eps", "0.05", "--steps", "4", "--precision", "auto", "-o", "a.safetensors"]
    assert attack(*options, stop=30).returncode == 130
    assert (len(probes), Path("a.resume").exists()) == (1, True)
    done = attack(*options, "--resume")
    assert json.loads(done.stdout)["params"]["precision"] == "bfloat16"
    assert len(probes) == 1


def test_a_short_attack_writes_nothing_on_the_way(attack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume_folder, "EVERY", 3600.0)
    assert attack(*AUTOATTACK, "-o", "a.safetensors", stop=20).stderr == "advkit: interrupted\n"
    assert not list(Path().glob("a*"))


def test_a_log_gets_a_line_now_and_then(attack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advkit.commands.output._LINE", 0.0)
    told = attack(*AUTOATTACK, "-o", "a.safetensors", quiet=False).stderr.splitlines()
    stages = ("apgd-ce", "apgd-t", "fab-t", "square")
    expected = [
        rf"advkit: images {window}: {stage} done, \d+ not fooled"
        for window in ("1 to 24", "25 to 40")
        for stage in stages
    ]
    found = [line for line in told if ": images " in line]
    assert len(found) == len(expected)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(expected, found, strict=True))
    assert [line.split(",")[0] for line in told if "attack " in line] == [
        f"advkit: attack {done}/40" for done in (8, 16, 24, 32, 40)
    ]
    now = iter(range(10_000))
    with monkeypatch.context() as patch:  # a second between any two looks at the clock: not every line is due
        patch.setattr("advkit.commands.output._LINE", 4.5)
        patch.setattr("advkit.commands.output.time.perf_counter", lambda: float(next(now)))
        assert 1 <= len(attack(*AUTOATTACK, "-o", "a.safetensors", quiet=False).stderr.splitlines()) <= len(told) // 2
    monkeypatch.setattr("advkit.commands.output._LINE", 3600.0)
    assert not attack(*AUTOATTACK, "-o", "a.safetensors", quiet=False).stderr
    assert not attack(*AUTOATTACK, "-o", "a.safetensors").stderr


def test_an_attack_that_can_keep_nothing_goes_on(attack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = result(attack(*AUTOATTACK, "-o", "whole.safetensors"))

    def full(path: Path, *rest: object) -> None:
        raise InputError(f"{path}: cannot write: No space left on device; the file is as it was")

    monkeypatch.setattr(resume_folder, "write_state_file", full)
    done = attack(*AUTOATTACK, "-o", "a.safetensors")
    assert result(done) == whole
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line
    assert "the attack goes on" in line
    assert not Path("a.resume").exists()
    assert Path("a.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()


def test_another_target_is_another_attack(attack: Run) -> None:
    options = ["--method", "pgd", "--eps", "0.05", "--steps", "4", "-o", "a.safetensors", "--goal", "transfer"]
    assert attack(*options, "--target", "next", stop=20).returncode == 130
    assert "another target" in one_line(attack(*options, "--target", "random", "--resume"))


@pytest.mark.parametrize("more", [[], ["--resume"], ["--force"]])
def test_a_folder_of_other_files_is_left_alone(more: list[str], attack: Run) -> None:
    Path("a.resume").mkdir()
    Path("a.resume/thesis.txt").write_text("years of work")
    assert "holds other files; choose another -o" in one_line(attack(*AUTOATTACK, "-o", "a.safetensors", *more))
    assert Path("a.resume/thesis.txt").read_text() == "years of work"
    assert not Path("a.safetensors").exists()


def test_what_is_kept_stays_until_the_report_is_there(attack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = result(attack(*AUTOATTACK, "-o", "whole.safetensors"))

    def full(*given: object, **more: object) -> int:
        raise InputError("r.json: cannot write: No space left on device; the file is as it was")

    with monkeypatch.context() as patch:
        patch.setattr("advkit.reports.envelope.finish", full)
        assert "r.json" in one_line(attack(*AUTOATTACK, "-o", "a.safetensors"))
    assert Path("a.resume").is_dir()
    assert result(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume")) == whole
    assert not Path("a.resume").exists()


def test_time_has_to_pass_between_two_writings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]
    monkeypatch.setattr(resume_folder.time, "monotonic", lambda: now[0])
    kept = resume_folder.ResumeFolder(tmp_path / "a.resume", {}, resume=False)
    seen = []
    for number in range(25):
        now[0] += 1.0
        kept.window(slice(number, number + 1)).save_result(resume_folder.SavedState({"images": torch.zeros(1)}, {}))
        seen.append(len(list(tmp_path.glob("a.resume/*"))))
    assert seen == [0] * 9 + [10] * 10 + [20] * 6


def test_zero_gradients_of_stages_before_are_counted_too(attack: Run) -> None:
    """The net of this one is flat: no stage with gradients finds any."""
    flat = NET.replace("super().forward(images)", "super().forward((images * 8).round() / 8)")
    Path("net.py").write_text(flat)
    whole = result(attack(*AUTOATTACK, "-o", "whole.safetensors"))
    assert whole["zero_gradients"] > 0
    passes = int(Path("passes").read_text())
    for stop in range(passes // 4, passes, 4):
        assert attack(*AUTOATTACK, "-o", "a.safetensors", "--force", stop=stop).returncode == 130
        if list(Path("a.resume").glob("*.stage.safetensors")):
            break
    assert list(Path("a.resume").glob("*.stage.safetensors"))
    assert result(attack(*AUTOATTACK, "-o", "a.safetensors", "--resume")) == whole
