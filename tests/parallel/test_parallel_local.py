"""Worker processes: every item once, the same bits for any number; what raises, hangs or dies is replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chores
import pytest

from advkit.files.errors import InputError
from advkit.parallel.executor import open_executor
from advkit.parallel.task import TaskResult, WorkerTask

HERE = Path(__file__).parent
CHORE = WorkerTask(chores.begin, (), chores.chore)
PATIENCE = 20.0  # seconds for what takes a fraction of one, on a busy machine


def mapped(task: WorkerTask, items: list[Any], **options: Any) -> list[TaskResult]:
    """Outcomes in the order of the items, each of which must come exactly once."""
    with open_executor(task, **options) as engine:
        found = sorted(engine.map(items), key=lambda outcome: outcome.item)
    assert [outcome.item for outcome in found] == list(range(len(items)))
    assert all((outcome.value is None) != (outcome.error is None) for outcome in found)
    return found


def gone(pid: int) -> bool:
    """Whether no process of that id is left (one that nobody waited for counts as gone)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def soon(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true within bearable time."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_the_same_bits_for_any_number_of_workers() -> None:
    found = {n: mapped(WorkerTask(chores.begin, (), chores.numbers), list(range(9)), workers=n) for n in (1, 2)}
    bits = {n: [outcome.value[0] for outcome in outcomes] for n, outcomes in found.items()}
    assert bits[1] == bits[2]
    assert len(set(bits[1])) == 9
    processes = {n: {outcome.value[1] for outcome in outcomes} for n, outcomes in found.items()}
    assert len(processes[1]) == 1
    assert os.getpid() not in processes[1], "one worker is a worker too"
    assert 1 <= len(processes[2]) <= 2
    assert all(outcome.attempts == 1 and outcome.seconds > 0 for outcome in found[2])


def test_threads_are_limited_before_torch_comes() -> None:
    (outcome,) = mapped(WorkerTask(chores.begin, (), chores.threads), ["x"], threads=2)  # the tests have one
    assert outcome.value == ("2", 2)


def test_workers_stay_for_the_next_call_and_keep_their_state() -> None:
    with open_executor(WorkerTask(chores.begin, (40,), chores.add), workers=2) as engine:
        assert sorted(outcome.value for outcome in engine.map([1, 2, 3])) == [41, 42, 43]
        assert list(engine.map([])) == []
    with open_executor(CHORE, workers=1) as engine:
        processes = {outcome.value[1] for _ in range(3) for outcome in engine.map(["fine", "fine"])}
    assert len(processes) == 1


def test_two_workers_work_at_once(tmp_path: Path) -> None:
    found = mapped(WorkerTask(chores.begin, (str(tmp_path),), chores.meet), [False, False], workers=2)
    assert [outcome.value for outcome in found] == [os.getcwd()] * 2


def test_outcomes_come_as_they_are_ready() -> None:
    with open_executor(CHORE, workers=2, timeout=2.0, retries=0) as engine:
        assert [outcome.item for outcome in engine.map(["hang", "fine", "fine"])] == [1, 2, 0]


@pytest.mark.parametrize("how", ["kill", "exit", "segfault", "hang", "raise", "memory"])
def test_a_second_attempt_succeeds(how: str, tmp_path: Path) -> None:
    items = [(how, str(tmp_path / "marker")), *["fine"] * 3]
    first, *others = mapped(CHORE, items, workers=2, timeout=3.0)
    assert (first.error, first.attempts) == (None, 2)
    assert first.value[0] == how
    assert [(outcome.value[0], outcome.attempts) for outcome in others] == [("fine", 1)] * 3


ERRORS = {
    "kill": "worker died (signal 9)",
    "segfault": "worker died (signal 11)",
    "exit": "worker died (exit status 3)",
    "hang": "timed out after 0.7 s",
    "raise": "ValueError: two lines",
    "memory": "out of memory",
    "torch memory": "out of memory",
    "lambda": "AttributeError: Can't pickle local object 'chore.<locals>.<lambda>'",
}


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) if how == "torch memory" else how for how in ERRORS]
)
def test_what_fails_always_costs_only_itself(how: str) -> None:
    limit = 0.7 if how == "hang" else None
    failed, *others = mapped(CHORE, [how, *["fine"] * 4], workers=2, timeout=limit)
    assert failed.attempts == 2
    assert failed.error is not None
    assert failed.error.replace("get local", "pickle local") == ERRORS[how]  # Python 3.13 words it so
    assert failed.seconds >= (limit or 0.0)
    assert [outcome.value[0] for outcome in others] == ["fine"] * 4


@pytest.mark.parametrize("retries", [0, 2])
def test_retries_are_counted(retries: int, tmp_path: Path) -> None:
    found = mapped(WorkerTask(chores.begin, (str(tmp_path),), chores.count), ["a", "b"], workers=2, retries=retries)
    assert [outcome.attempts for outcome in found] == [retries + 1] * 2
    assert len(list(tmp_path.glob("a-*"))) == len(list(tmp_path.glob("b-*"))) == retries + 1


def test_a_worker_is_used_again_after_an_exception_but_not_after_want_of_memory() -> None:
    with open_executor(CHORE, workers=1, retries=0) as engine:
        (before,) = engine.map(["fine"])
        _, after = sorted(engine.map(["raise", "fine"]), key=lambda outcome: outcome.item)
        _, anew = sorted(engine.map(["memory", "fine"]), key=lambda outcome: outcome.item)
    assert before.value == after.value != anew.value


def test_a_worker_that_died_idle_is_replaced() -> None:
    with open_executor(CHORE, workers=1) as engine:
        (first,) = engine.map(["fine"])
        os.kill(first.value[1], signal.SIGKILL)
        (second,) = engine.map(["fine"])
    assert second.error is None
    assert second.value[1] != first.value[1]


def test_bad_input_stops_the_run() -> None:
    with open_executor(CHORE, workers=2) as engine:
        (before,) = engine.map(["fine"])
        with pytest.raises(InputError) as raised:
            list(engine.map(["fine", "input", *["hang"] * 2]))
    assert str(raised.value) == "photo.png: no picture; give another"
    assert gone(before.value[1])


@pytest.mark.parametrize(
    ("how", "text", "starts"),
    [
        ("raise", "a worker could not start: ValueError: two lines", 1),
        ("input", "photo.png: no picture; give another", 1),
        ("memory", "a worker could not start: out of memory", 1),
        ("kill", "a worker could not start: worker died (signal 9)", 3),
    ],
)
def test_a_start_that_fails_is_no_endless_loop(how: str, text: str, starts: int, tmp_path: Path) -> None:
    task = WorkerTask(chores.begin_badly, (how, str(tmp_path)), chores.chore)
    with pytest.raises(InputError) as raised, open_executor(task, retries=2) as engine:
        list(engine.map(["fine"]))
    assert str(raised.value) == text
    assert len(list(tmp_path.iterdir())) == starts


def test_a_start_without_end_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("advkit.parallel.pool.START_LIMIT", 1.0)
    task = WorkerTask(chores.begin_badly, ("hang", str(tmp_path)), chores.chore)
    with pytest.raises(InputError, match="no worker was ready within 1 s"), open_executor(task, workers=2) as engine:
        list(engine.map(["fine"]))


def test_an_iterator_left_early_leaves_nothing_to_the_next_call() -> None:
    with open_executor(CHORE, workers=2) as engine:
        for outcome in engine.map(["a", "b", "hang", "hang"]):
            assert outcome.value[0] in ("a", "b")
            break
        assert sorted(outcome.value[0] for outcome in engine.map(["c", "d", "e"])) == ["c", "d", "e"]


def interrupted(processes: list[int]) -> None:
    """Ctrl-C while one worker is at work and one is idle."""
    with open_executor(CHORE, workers=2) as engine:
        for outcome in engine.map(["a", "b", "c", "hang"]):
            processes.append(outcome.value[1])
            if len(processes) == 3:
                raise KeyboardInterrupt


def test_no_worker_survives_the_block() -> None:
    processes: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(processes)
    assert len(processes) == 3
    assert all(map(gone, processes))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_replaced_workers_leave_no_open_files() -> None:
    with open_executor(CHORE, workers=1, retries=0) as engine:
        list(engine.map(["fine"]))
        before = len(os.listdir("/proc/self/fd"))
        list(engine.map(["kill"] * 5))
        list(engine.map(["fine"]))
        assert len(os.listdir("/proc/self/fd")) == before


def test_chatter_stays_away_from_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    mapped(CHORE, ["print", "print"])
    found = capfd.readouterr()
    assert found.out == ""
    assert found.err == "chatter\n" * 2


def foreman(folder: Path, *ray: str) -> subprocess.Popen[str]:
    """A process with two workers, here or on Ray, which sign in to ``folder``; a group of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    return subprocess.Popen(
        [sys.executable, str(HERE / "foreman.py"), str(folder), *ray],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def group_is_gone(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("delay", [None, 0.0, 0.05, 0.2])
def test_ctrl_c_ends_all_of_them_quietly(delay: float | None, tmp_path: Path) -> None:
    """With both at work, or ``delay`` seconds after the first is asked for, while they are still being started."""
    with foreman(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if delay is None:
            assert soon(lambda: len(list(tmp_path.iterdir())) == 2)
        else:
            time.sleep(delay)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (130, "", "")
        assert time.monotonic() - began < 5
        assert soon(lambda: group_is_gone(process.pid))


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with foreman(tmp_path) as process:
        assert soon(lambda: len(list(tmp_path.iterdir())) == 2)
        process.kill()
        process.wait()
        assert all(soon(lambda pid=int(path.name): gone(pid)) for path in tmp_path.iterdir())
        assert soon(lambda: group_is_gone(process.pid))
