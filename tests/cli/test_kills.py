"""SIGKILL at any moment of a run, by the clock and between any two file operations: the same bytes, nothing stray."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import handmade
import pytest
from executable import REPOSITORY, TIMEOUT, environment, start

KILLS = 12
HOOK = Path(__file__).parent / "killed"
TRAIN = ("train", "--arch", "advkit/cnn", "--data", "digits", "--limit", "200", "--batch-size", "32", "--epochs", "5")
EVOLVE = (
    *("evolve", "r.safetensors", "--data", "two.npz", "--candidate-images", "384", "--rungs", "2"),
    *("--candidate-epochs", "1", "--validation-images", "40", "--budget", "2", "--offspring", "2", "--population", "2"),
    *("--epochs", "1", "--eps", handmade.EPS, "--steps", "1", "--method", "pgd", "--finalists", "1"),
    *("--accuracy-floor", "0.05", "--max-multiply-adds", "400000", "--max-parameters", "60000"),
)


@dataclass
class Killed:
    """Runs of one command in ``folder``, whose end is known from one that nobody disturbed.

    Attributes:
        command: of the tool.
        folder: the working directory, which holds ``given`` at first.
        given: files that a run reads.
        count: a file outside ``folder``.
        idle, seconds, operations: of the undisturbed run: until its first file operation (imports), in all, how many.
    """

    command: tuple[str, ...]
    folder: Path
    given: tuple[Path, ...]
    count: Path
    idle: float = 0.0
    seconds: float = 0.0
    operations: int = 0

    def anew(self) -> None:
        """Begin with an empty directory."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for file in self.given:
            shutil.copy(file, self.folder)

    def start(self, *more: str, at: int = 0) -> subprocess.Popen[str]:
        """Start the command, to be killed before its file operation number ``at``."""
        own = {"KILLED_BELOW": str(self.folder), "KILLED_AT": str(at), "KILLED_COUNT": str(self.count)}
        env = environment(PYTHONPATH=f"{HOOK}:{REPOSITORY}") | own
        return start(*self.command, "--quiet", *more, cwd=self.folder, env=env, start_new_session=True)

    def whole(self) -> dict[str, bytes]:
        """Files of the undisturbed run; notes how long it takes and how many file operations."""
        self.anew()
        began = time.monotonic()
        finish(self.start())
        self.seconds = time.monotonic() - began
        operations, idle = self.count.read_text().split()
        self.operations, self.idle = int(operations), float(idle)
        return files(self.folder)

    def moments(self, seed: int) -> Iterator[tuple[float, int]]:
        """Without end: a time limit alone, or the number of a file operation alone, in turn."""
        draw = random.Random(seed)
        while True:
            yield draw.uniform(self.idle, self.seconds), 0
            yield TIMEOUT, draw.randint(1, self.operations)


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (0, ""), out + err


def files(folder: Path) -> dict[str, bytes]:
    """What two equal runs have in common: all but the log of trainings, which says how long they took."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() if path.name != "candidates.jsonl" else b"" for name, path in found.items()}


def left_of(session: int) -> list[str]:
    """Living processes of a session."""
    listed = subprocess.run(["ps", "-eo", "pid=,sess=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return [" ".join(row) for row in rows if row[1] == str(session) and row[2][0] != "Z"]


def ended(session: int) -> bool:
    """Whether a session is empty within bearable time."""
    deadline = time.monotonic() + 20
    while left_of(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left_of(session)


def kill(runs: Killed, kills: int, expected: dict[str, bytes], go_on: Callable[[], tuple[str, ...]]) -> None:
    """Kill and go on ``kills`` times, then to the end; a run that ends before its moment is followed by a new one."""
    runs.anew()
    done = 0
    for seconds, at in runs.moments(seed=kills):
        process = runs.start(*go_on(), at=at)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        err = process.communicate()[1]
        assert ended(process.pid), left_of(process.pid)
        if process.returncode == 0:
            assert files(runs.folder) == expected
            runs.anew()
        else:
            # A worker that was only just started finds nobody to read from; multiprocessing says so until it is killed.
            assert process.returncode == -signal.SIGKILL
            assert err == "" or err.startswith("Process SpawnProcess-"), err
            done += 1
        if done == kills:
            break
    finish(runs.start(*go_on()))
    assert files(runs.folder).keys() == expected.keys()
    assert files(runs.folder) == expected


@pytest.mark.slow
def test_train_killed_at_any_moment_ends_in_the_same_bytes(tmp_path: Path) -> None:
    runs = Killed((*TRAIN, "-o", "x.safetensors"), tmp_path / "run", (), tmp_path / "count")
    expected = runs.whole()
    assert expected.keys() == {"x.safetensors"}
    state = runs.folder / "x.resume.safetensors"
    kill(runs, KILLS, expected, lambda: ("--resume",) if state.exists() else ())


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_evolve_killed_at_any_moment_ends_in_the_same_bytes(workers: str, tmp_path: Path) -> None:
    given = handmade.write_reference(tmp_path / "r.safetensors"), handmade.write_images(tmp_path / "two.npz")
    command = (*EVOLVE, "--workers", workers, "-o", "e.safetensors")
    runs = Killed(command, tmp_path / "run", given, tmp_path / "count")
    expected = runs.whole()
    assert not [name for name in expected if ".tmp" in name]
    kill(runs, KILLS // 2, expected, lambda: ())
