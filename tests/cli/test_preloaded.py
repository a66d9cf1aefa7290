"""A fork of the process with the libraries is what a new interpreter is, but for how soon it is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forkserver
import pytest
from executable import TIMEOUT, environment, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process is a new interpreter")

PROBE = """
import ctypes, json, os, random, signal, sys, threading

def streams():
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        yield [stream.name, stream.fileno(), stream.mode, stream.encoding, stream.errors, stream.line_buffering,
               stream.isatty(), os.fstat(stream.fileno()).st_mode, stream.newlines, stream.write_through]

json.dump({
    "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(), "environment": dict(os.environ),
    "open": sorted(os.listdir("/proc/self/fd")), "parent": os.getppid(), "leads": os.getsid(0) == os.getpid(),
    "group": os.getpgrp() - os.getpid() if os.getpgrp() == os.getpid() else "inherited",
    "handlers": {int(n): str(signal.getsignal(n)).split(" at ")[0] for n in signal.valid_signals()},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "streams": [str(s) for s in streams()],
    "threads": [len(os.listdir("/proc/self/task")), threading.active_count()], "main": __name__,
    "file": __file__, "spec": __spec__ and __spec__.name, "same": sys.modules["__main__"].__dict__ is globals(),
    "ours": sorted(name for name in sys.modules if name.startswith("advkit")),
    "subreaper": ctypes.CDLL(None).prctl(37, ctypes.byref(ctypes.c_int()), 0, 0, 0),
    "death": [ctypes.CDLL(None).prctl(2, ctypes.byref(signum := ctypes.c_int()), 0, 0, 0), signum.value],
}, sys.stdout)
"""
DRAW = "import numpy, random; print(numpy.random.rand(), random.random())"
ENDS = {
    "nothing": ("pass", 0),
    "a number": ("sys.exit(3)", 3),
    "a large number": ("sys.exit(258)", 2),
    "words": ("sys.exit('no')", 1),
    "an exception": ("print('out'); 1 / 0", 1),
    "at once": ("os._exit(7)", 7),
    "a signal": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "interrupted": ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    "exit handlers": ("import atexit; atexit.register(print, 'last'); print('first'); sys.exit(4)", 4),
    "a thread": ("import threading; threading.Thread(target=print, args=('thread',)).start()", 0),
}


def program(folder: Path, code: str) -> tuple[str, str]:
    path = folder / "program.py"
    path.write_text(code)
    return sys.executable, str(path)


def born(fresh: bool, *words: str, **options: Any) -> tuple[int, str, str]:
    with start(*words, fresh=fresh, **options) as process:
        out, err = process.communicate(timeout=TIMEOUT)
    assert process.pid > 0
    return process.returncode, out, err


@pytest.mark.parametrize("session", [False, True])
def test_it_is_born_with_what_exec_would_give_it(session: bool, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(PROBE)
    env = environment(ADVKIT_DEBUG="1", COLUMNS="33")
    for words in (program(tmp_path, PROBE), (sys.executable, "-m", "module")):
        options = {"program": words, "cwd": tmp_path, "env": env, "start_new_session": session}
        fresh, fork = (born(kind, "a", "b c", "ü", **options) for kind in (True, False))
        assert (fork[0], fork[2]) == (fresh[0], fresh[2]) == (0, "")
        expected, found = json.loads(fresh[1]), json.loads(fork[1])
        assert found == expected
        assert found["parent"] == os.getpid()
        assert found["ours"] == []
        assert found["leads"] == session


SPAWN = """
import json, multiprocessing, os, signal, sys
sys.path[:0] = ["mine"]
os.environ["ADVKIT_DEBUG"] = "2"

def work(pipe):
    imported = "torch" in sys.modules
    pipe.send([os.getppid(), __name__, sys.argv, sys.path, os.getcwd(), os.environ["ADVKIT_DEBUG"],
               sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), len(os.listdir("/proc/self/fd")), imported])
    if pipe.recv() == "end":
        print("worker", flush=True)
        sys.exit(5)
    os.kill(os.getpid(), 9)

if __name__ == "__main__":
    context, found = multiprocessing.get_context("spawn"), []
    for word in ("end", "die"):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        parent, *others = ours.recv()
        ours.send(word)
        process.join()
        found.append([parent == os.getpid(), *others, process.exitcode])
    print(json.dumps(found))
"""


def test_workers_are_children_of_it(tmp_path: Path) -> None:
    words = program(tmp_path, SPAWN)
    fresh, fork = (
        born(kind, "a", program=words, cwd=tmp_path, **more)
        for kind, more in ((True, {}), (False, {"forked_workers": True}))
    )
    assert (fork[0], fork[2]) == (fresh[0], fresh[2]) == (0, "")
    (heard, expected), (also, found) = fresh[1].splitlines(), fork[1].splitlines()
    assert heard == also == "worker"
    assert [[*row[:-2], row[-1]] for row in json.loads(found)] == [[*row[:-2], row[-1]] for row in json.loads(expected)]
    assert [row[-2:] for row in json.loads(found)] == [[True, 5], [True, -signal.SIGKILL]]
    assert [row[-2] for row in json.loads(expected)] == [False, False]


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_a_new_interpreter_does(end: str, tmp_path: Path) -> None:
    code, status = ENDS[end]
    words = program(tmp_path, f"import os, signal, sys\n{code}\n")
    fresh, fork = (born(kind, program=words) for kind in (True, False))
    assert fork[:2] == fresh[:2]
    assert fork[0] == status
    assert fork[2].splitlines()[-1:] == fresh[2].splitlines()[-1:]


def test_a_reader_that_left_is_met_at_its_end_too(tmp_path: Path) -> None:
    found = []
    for fresh in (True, False):
        reading, writing = os.pipe()
        os.close(reading)
        status, _, errors = born(fresh, program=program(tmp_path, "print('x')"), stdout=writing)
        found.append((status, errors.splitlines()[-1]))
        os.close(writing)
    assert found[0] == found[1]
    assert found[0][0] != 0
    assert "BrokenPipeError" in found[0][1]


def test_no_two_of_them_draw_the_same(tmp_path: Path) -> None:
    drawn = [born(False, program=program(tmp_path, DRAW))[1].split() for _ in range(3)]
    assert all(len(set(numbers)) == 3 for numbers in zip(*drawn, strict=True))


def test_libraries_are_there_and_have_started_no_thread(tmp_path: Path) -> None:
    code = f"import os, sys; print({forkserver.LIBRARIES} - set(sys.modules), len(os.listdir('/proc/self/task')))"
    assert born(False, program=program(tmp_path, code))[1] == "set() 1\n"


@pytest.mark.parametrize(
    "different",
    [
        {"env": environment(OMP_NUM_THREADS="2")},
        {"env": environment(OMP_WAIT_POLICY="active")},
        {"env": environment(PYTHONHASHSEED="1")},
        {"env": {name: value for name, value in environment().items() if name != "OMP_NUM_THREADS"}},
        {"preexec_fn": lambda: None},
        {"fresh": True},
    ],
)
def test_what_a_fork_cannot_have_gets_a_new_interpreter(different: dict[str, Any], tmp_path: Path) -> None:
    words = program(tmp_path, "import sys; print('torch' in sys.modules)")
    fresh = different.get("fresh", False)
    options = {name: value for name, value in different.items() if name != "fresh"}
    assert born(fresh, program=words, **options) == (0, "False\n", "")
    assert born(False, program=words) == (0, "True\n", "")


def test_it_is_waited_for_polled_and_killed(tmp_path: Path) -> None:
    words = program(tmp_path, "import time; print('begun', flush=True); time.sleep(600)")
    with start(program=words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(TIMEOUT) == process.poll() == -signal.SIGKILL
    assert process.args == list(words)


def test_orphans_of_others_do_not_stay_here(tmp_path: Path) -> None:
    """Only at the moment of a birth does this process take in orphans."""
    start(program=program(tmp_path, "pass")).communicate()
    code = "import os, time\nprint(parent := os.getpid(), flush=True)\nif os.fork() == 0:\n"
    code += "    while os.getppid() == parent:\n        time.sleep(0.01)\n    print(os.getppid())\n"
    _, out, _ = born(False, program=program(tmp_path, code))
    parent, new_parent = map(int, out.split())
    assert new_parent not in (parent, os.getpid())


@pytest.mark.slow
def test_the_server_ends_with_the_tests() -> None:
    code = "import os, preloaded; print(preloaded._forkserver()._process.pid, flush=True); os.kill(os.getpid(), 9)"
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert found.returncode == -signal.SIGKILL
    server, deadline = Path("/proc", found.stdout.strip(), "stat"), time.monotonic() + TIMEOUT
    while server.exists() and server.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
