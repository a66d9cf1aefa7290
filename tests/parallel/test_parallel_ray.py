"""A Ray cluster of two nodes: as worker processes here, bit for bit; and one line for whatever is wrong with it."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import socket
import time
from pathlib import Path
from typing import Any

import chores
import pytest
from test_parallel_local import CHORE, foreman, gone, mapped, soon

from advkit.files.errors import InputError
from advkit.parallel.executor import open_executor
from advkit.parallel.task import WorkerTask

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


def refused(address: str, **options: Any) -> str:
    """Why no engine opens at ``address``, found out in seconds."""
    began = time.monotonic()
    with pytest.raises(InputError) as raised, open_executor(CHORE, ray=address, **options):
        pass
    assert time.monotonic() - began < 10
    return str(raised.value)


def test_results_are_those_of_processes_here(ray_cluster: str) -> None:
    items = list(range(6))
    there = mapped(WorkerTask(chores.begin, (), chores.numbers), items, ray=ray_cluster)
    here = mapped(WorkerTask(chores.begin, (), chores.numbers), items, workers=2)
    assert [outcome.value[0] for outcome in there] == [outcome.value[0] for outcome in here]
    assert not {outcome.value[1] for outcome in there} & {outcome.value[1] for outcome in here}


def test_both_nodes_work_at_once_where_the_files_are(ray_cluster: str, tmp_path: Path) -> None:
    task = WorkerTask(chores.begin, (str(tmp_path),), chores.meet)
    assert [outcome.value for outcome in mapped(task, [True, True], ray=ray_cluster)] == [os.getcwd()] * 2


def test_what_fails_costs_only_itself(ray_cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    once = [(how, str(tmp_path / how)) for how in ("kill", "hang")]
    with open_executor(CHORE, ray=ray_cluster, timeout=3.0) as engine:
        outcomes = list(engine.map(["fine", *once, "kill", "raise", "memory", "fine"]))
        found = sorted(outcomes, key=lambda outcome: outcome.item)
        assert [outcome.item for outcome in found] == list(range(7))
        good = [outcome for outcome in found if outcome.error is None]
        assert [(outcome.item, outcome.attempts) for outcome in good] == [(0, 1), (1, 2), (2, 2), (6, 1)]
        assert found[3].error is not None
        assert found[3].error.startswith("worker died (")
        assert (found[4].error, found[5].error) == ("ValueError: two lines", "out of memory")
        for outcome in engine.map(["fine", "hang", "hang"]):  # left early: nothing of it in the next call
            assert outcome.item == 0
            break
        assert sorted(outcome.value[0] for outcome in engine.map(["a", "b"])) == ["a", "b"]
    assert all(soon(lambda pid=outcome.value[1]: gone(pid)) for outcome in good)
    assert tuple(capfd.readouterr()) == ("", ""), "Ray keeps its paragraphs to itself"


def test_bad_input_stops_the_run(ray_cluster: str) -> None:
    with open_executor(CHORE, ray=ray_cluster) as engine, pytest.raises(InputError) as raised:
        list(engine.map(["fine", "input", "hang"]))
    assert str(raised.value) == "photo.png: no picture; give another"


def test_a_start_that_fails_is_one_line(ray_cluster: str, tmp_path: Path) -> None:
    task = WorkerTask(chores.begin_badly, ("raise", str(tmp_path)), chores.chore)
    with open_executor(task, ray=ray_cluster) as engine, pytest.raises(InputError) as raised:
        list(engine.map(["fine"]))
    assert str(raised.value) == "a worker could not start: ValueError: two lines"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(number: signal.Signals, ray_cluster: str, tmp_path: Path) -> None:
    with foreman(tmp_path, ray_cluster) as process:
        assert soon(lambda: len(list(tmp_path.iterdir())) == 2)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as the terminal does it: to the child that uses Ray, too
        else:
            process.kill()
        assert process.communicate(timeout=20) == ("begun\n", "")
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert all(soon(lambda pid=int(path.name): gone(pid)) for path in tmp_path.iterdir())


def test_auto_is_the_cluster_of_the_environment(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    (outcome,) = mapped(WorkerTask(chores.begin, (1,), chores.add), [2], ray="auto")
    assert outcome.value == 3


def test_too_many_threads_for_any_node(ray_cluster: str) -> None:
    assert refused(ray_cluster, threads=2) == f"--ray {ray_cluster}: no machine of the cluster has 2 CPUs"


@pytest.mark.parametrize("address", ["6379", "cluster", "ray://127.0.0.1:10001", "127.0.0.1:", "127.0.0.1:99999"])
def test_what_is_no_address(address: str) -> None:
    assert refused(address) == f"--ray {address}: write HOST:PORT, as 'ray start --head' prints it, or auto"


def test_nothing_listens_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    assert refused(address) == f"--ray {address}: no cluster there (Connection refused); 'ray start --head' starts one"
    assert "no cluster there" in refused("no-such-host.invalid:6379")


def test_something_else_listens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advkit.parallel.ray_client.OPEN_LIMIT", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert refused(address) == f"--ray {address}: no Ray cluster answers there; see what 'ray status' says"


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refused("127.0.0.1:6379") == "--ray 127.0.0.1:6379: Ray is not installed; pip install advkit[ray]"


def test_other_software_on_a_node(tmp_path: Path) -> None:
    from advkit.parallel.ray_driver import RayWorkerState, versions

    host, task = socket.gethostname(), pickle.dumps(CHORE)

    def begun(directory: Path, expected: dict[str, str]) -> tuple[str, str]:
        reply = pickle.loads(RayWorkerState().begin_there(task, 1, str(directory), expected))
        return reply.kind, reply.text

    here, old = Path.cwd(), versions() | {"torch": "1.0"}
    assert begun(here, versions()) == ("done", "")
    kind, text = begun(here, old)
    assert kind == "refused"
    assert text == f"{host} has torch {versions()['torch']}, not 1.0; install the same everywhere"
    assert begun(tmp_path / "x", versions()) == (
        "refused",
        f"{host} has no {tmp_path / 'x'}; its machines must share the file system",
    )


def test_another_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from advkit.parallel.ray_driver import _join

    def init(**options: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 1.0\n")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError) as raised:
        _join("h:1")
    assert str(raised.value) == "--ray h:1: Version mismatch: The cluster was started with: Ray: 1.0"
