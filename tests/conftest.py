"""A Ray cluster of two machines, both of them this one, for every part that can use one; who runs which tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the machine: threads of each would wait for those of
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the others, and spin meanwhile. torch reads it when imported.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell: what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent
# The kernel asks a node to stop when the process of the tests is killed (PR_SET_PDEATHSIG); it then stops its own.
MORTAL = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.executable, sys.argv[1:])"
READY = "Ray runtime started"
PATIENCE = 90.0  # seconds; a node takes 3 to 6


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A cluster takes ten seconds to stand up and a processor to live."""
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``pytest -n`` hands out whole files, whose tests share what is dear, and all tests of the cluster as one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, name = nodeid.partition("::")
            return "cluster" if "parallel_ray" in file or "cluster" in name else file

    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False  # in alphabetical order short files are the last
    return Scheduling(config, log)


def node(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """``ray start ARGUMENTS``, in a session of its own, able to import what tests send it."""
    paths = [str(TESTS.parent), str(TESTS / "parallel"), str(TESTS / "cli"), os.environ.get("PYTHONPATH", "")]
    more = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *arguments]
    if sys.platform == "linux":
        command = [sys.executable, "-c", MORTAL, *command]
    with log.open("wb") as out:
        return subprocess.Popen(
            [*command, "--object-store-memory=80000000"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=os.environ | more,
            cwd="/",
            start_new_session=True,
        )


def wait_for(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while READY not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a node and what it started: its session, since workers have groups of their own."""
    process.kill()
    process.wait()
    while True:
        listed = subprocess.run(["ps", "-eo", "pid=,sess=,stat="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listed.splitlines()]
        left = [int(pid) for pid, session, state in rows if session == str(process.pid) and state[0] != "Z"]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Address of two nodes of one CPU each; skips where Ray is not installed."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed (pip install advkit[ray])")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    nodes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:  # short: sockets
        logs = [Path(folder, f"node{k}.log") for k in (1, 2)]
        head = ("--head", "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}")
        try:
            for log, arguments in zip(logs, (head, (f"--address={address}",)), strict=True):
                nodes.append(node(log, *arguments, *(() if arguments is not head else ("--include-dashboard=false",))))
                wait_for(log, nodes[-1])
            yield address
        finally:
            for process in nodes:
                end(process)
