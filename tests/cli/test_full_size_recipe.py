"""The full-size recipe of the study of adaptation, from end to end on folders of a few small pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from adapting import voc
from executable import environment

SCRIPT = Path(__file__).parents[1] / "studies/adaptation/voc-clipart.sh"


def with_lists(folder: Path, **lists: range) -> Path:
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for name, numbers in lists.items():
        (main / f"{name}.txt").write_text("".join(f"{k}\n" for k in numbers))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "eps", "processes"),
    [("torchvision/ssd300_vgg16", "", 1), ("torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", "2", 2)],
)
def test_the_recipe_stopped_and_taken_up_reaches_its_table(arch: str, eps: str, processes: int, tmp_path: Path) -> None:
    names = [f"eps{one}-seed0{kind}" for one in ["0", *eps] for kind in ("", "-aligned")]
    source = with_lists(voc(tmp_path / "source", 0, 10), trainval=range(8), test=range(8, 10))
    target = with_lists(voc(tmp_path / "target", 1, 6), train=range(4), test=range(4, 6))
    for k in range(4):  # nothing may want the labels of what is adapted to
        (target / "Annotations" / f"{k}.xml").unlink()
    given = {
        "ADVKIT": f"{sys.executable} -m advkit",
        "TORCHRUN": f"{sys.executable} -m torch.distributed.run",
        "ARCH": arch,
        "TRAIN": "--lr 0.001 --batch-size 2 --freeze-bn --validation 0.25 --quiet",
        "EPOCHS": "1",
        "ALIGN_EPOCHS": "1",
        "EPS": eps,
        "SEEDS": "0",
        "PROCESSES": str(processes),
    }
    out = tmp_path / "out"
    command = ["sh", str(SCRIPT), str(source), str(target), str(out)]
    with subprocess.Popen(
        command, env=environment(**given), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 300
        while not (out / "eps0-seed0.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it was stopped"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) != 0
    kept = (out / "eps0-seed0.safetensors").stat().st_mtime_ns
    found = subprocess.run(command, env=environment(**given), capture_output=True, text=True, timeout=600, check=False)
    assert found.returncode == 0, found.stderr
    assert (out / "eps0-seed0.safetensors").stat().st_mtime_ns == kept
    rows = [line.split("\t") for line in (out / "table.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == names
    assert all(len(row) == 7 and 0 <= float(row[1]) <= 1 and 0 <= float(row[4]) <= 1 for row in rows)
    results = {name: json.loads((out / f"{name}.json").read_text())["result"] for name in names}
    assert len({result["sha256"] for result in results.values()}) == len(names)
    assert {results[name]["target_images"] for name in names[1::2]} == {4}
    assert all(results[f"eps{one}-seed0"]["epochs"][0]["adversarial_images"] for one in eps)
    assert json.loads((out / "distance.json").read_text())["result"]["n"] == 4
    (out / "eps0-seed0-target.json").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = subprocess.run(command, env=environment(**given), capture_output=True, text=True, timeout=600, check=False)
    assert again.returncode == 0, again.stderr
    anew = {path.name for path in out.iterdir() if before.get(path.name) != path.stat().st_mtime_ns}
    assert anew == {"eps0-seed0-target.json", "table.tsv"}
