"""Data on stdout, everything else on stderr: on a terminal, in a pipe, with readers that leave."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from executable import Run, advkit, done, environment, one_line, start
from terminal import on_terminal

RUNS = {
    "train": "train --arch advkit/cnn --data digits --limit 50 --epochs 2 --batch-size 16 --force -o t.safetensors",
    "adv-pretrain": "adv-pretrain --arch advkit/cnn --data digits --limit 50 --epochs 2 --batch-size 16 --force "
    "--method fast --eps 0.1 -o t.safetensors",
    "adapt": "adapt {r} --source digits --target digits#test --limit 50 --epochs 2 --batch-size 16 --force "
    "--method dann --compare digits#test -o t.safetensors",
    "attack": "attack {r} --data digits --limit 24 --batch-size 8 --eps 0.3 --method mi,di --steps 4 -o a.safetensors",
    "transfer-matrix": "transfer-matrix First={r} 'A longer name'={r2} Third={r} --data digits --limit 24 "
    "--batch-size 8 --method pgd --method mi --steps 4 --eps 0.3 --compare First:Third,First",
    "domain-distance": "domain-distance digits#train 'A longer name'=digits --limit 60 --batch-size 20 --repeats 2 "
    "--permutations 20 --advise",
    "evaluate": "evaluate {r} --data digits --limit 60 --batch-size 20",
    "visualize": "visualize attention {r} {r2} --data digits --count 1 --samples 2 --figure f.png",
    "visualize features": "visualize features 'A name of seventeen'={r} {r2} --data digits --count 2 --steps 30 "
    "--figure f.png",
}
WRITERS = ("train", "transfer-matrix", "evaluate")  # one function writes all reports
PROGRESS = set(RUNS) - {"visualize"}
ESCAPE = "\x1b"
MOVES = re.compile(r"\r|\x1b\[(\?25[lh]|1A|0m)")  # a bar is drawn over, its cursor hidden


def arguments(name: str, r: Path, r2: Path) -> list[str]:
    words = re.findall(r"(?:'[^']*'|\S)+", RUNS[name].format(r=r, r2=r2))
    return [word.replace("'", "") for word in words]


@pytest.mark.parametrize(
    "name", [name if name in (*WRITERS, "adapt") else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_report_json_and_quiet_on_a_terminal(name: str, r: Path, r2: Path, tmp_path: Path) -> None:
    command = arguments(name, r, r2)
    status, table, progress = on_terminal(*command, cwd=tmp_path)
    assert status == 0
    assert not table.startswith("{")
    assert max(map(len, table.splitlines())) <= 80
    assert ESCAPE not in table
    assert name != "transfer-matrix" or "T_cond" in table
    assert ("\x1b[2K" in progress and "left" in progress) == (name in PROGRESS)
    # Drawn over and wiped out at the end: only notes for people may stay.
    assert re.fullmatch(r"(.*\x1b\[2K)?(advkit: note: [^\n]+\n)*", MOVES.sub("", progress), re.DOTALL)
    status, text, silence = on_terminal(*command, "--json", "--quiet", "--report", "r.json", cwd=tmp_path)
    assert (status, silence) == (0, "")
    assert text == (tmp_path / "r.json").read_text()
    assert json.loads(text)["schema"] == f"advkit/{name.split()[0]}/1"


def test_in_a_pipe_there_is_the_report_and_nothing_else(
    r: Path, r2: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in RUNS:  # pipes for those two alone whose streams are a matter of more than one place
        found = (done if name in ("train", "transfer-matrix") else inside)(*arguments(name, r, r2))
        assert json.loads(found.stdout)["schema"] == f"advkit/{name.split()[0]}/1"
        lines = [line for line in found.stderr.splitlines() if not line.startswith("advkit: note: ")]
        epochs = [re.match(r"advkit: epoch (\d)/2: loss [\d.]+, accuracy [\d.]+ %, held-out", line) for line in lines]
        told = ["1", "2"] if "train" in name else [None, "1", "2", "1", "2"] if name == "adapt" else []  # two networks
        assert [found and found[1] for found in epochs] == told
    assert inside(*arguments("train", r, r2), "-q").stderr == ""
    for name in ("evaluate", "transfer-matrix"):  # one function writes all reports
        into_file = inside(*arguments(name, r, r2), "--report", "r.json", "-q")
        assert (into_file.stdout, into_file.stderr) == ("", "")
        both = inside(*arguments(name, r, r2), "--report", "r.json", "--json")
        assert both.stdout == (tmp_path / "r.json").read_text()


@pytest.mark.parametrize("no_color", [{}, {"NO_COLOR": "1"}])
def test_no_colour_whatever_the_terminal(no_color: dict[str, str], r: Path, tmp_path: Path) -> None:
    for words in (["--help"], ["attack", "--help"], ["evaluate", r, "--data", "digits"], ["evaluate", r], ["nonsense"]):
        _, text, _ = on_terminal(*words, cwd=tmp_path, apart=False, FORCE_COLOR="", **no_color)
        assert text
        assert ESCAPE not in text


def test_errors_are_one_line_on_a_terminal_too(r: Path, tmp_path: Path) -> None:
    status, out, err = on_terminal("evaluate", r, "--data", "nowhere", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"advkit: [^\n]*nowhere[^\n]*\n", err)


@pytest.mark.parametrize("words", [[], ["visualize"]])
def test_no_arguments_are_answered_with_help(words: list[str], inside: Run) -> None:
    found = inside(*words)
    assert found.returncode == 0
    assert found.stdout == inside(*words, "--help").stdout
    assert len(found.stdout.splitlines()) > 8


@pytest.mark.parametrize(
    ("name", "fresh"),
    [
        *((name, False) for name in (*WRITERS, "--help", "--schema")),
        pytest.param("evaluate", True, marks=pytest.mark.slow),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in RUNS if name not in WRITERS),
    ],
)
def test_a_reader_that_left_is_no_error_and_costs_nothing(
    name: str, fresh: bool, r: Path, r2: Path, tmp_path: Path
) -> None:
    """What a shell calls 141, never a gate's 1; what goes into files is whole."""
    more = {"--help": [name], "--schema": [name, "attack"]}
    command = more[name] if name in more else [*arguments(name, r, r2), "--report", "r.json", "--json", "-q"]
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*command, stdout=writing, cwd=tmp_path, fresh=fresh)
    os.close(writing)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGPIPE, 128 + signal.SIGPIPE)
    assert errors == ""
    if name in RUNS:
        assert json.loads((tmp_path / "r.json").read_text())["status"] == "done"
    if name == "train":
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["r.json", "t.safetensors"]
        done("evaluate", "t.safetensors", "--data", "digits", cwd=tmp_path)


def test_closed_outputs(r: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m advkit evaluate {r} --data digits --limit 20"

    def shell(more: str) -> subprocess.CompletedProcess[str]:
        words = ["sh", "-c", f"{command} {more}"]
        return subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False)

    closed = shell("--report r.json >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    assert json.loads((tmp_path / "r.json").read_text())["status"] == "done"
    assert shell("2>&-").stdout.startswith("{")
    assert shell("--data nowhere 2>&-").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_full_outputs(fresh: bool, r: Path) -> None:
    def run(full: str, *more: str) -> subprocess.CompletedProcess[str]:
        with open("/dev/full", "w") as device:
            return advkit("evaluate", r, "--data", "digits", "--limit", "20", *more, fresh=fresh, **{full: device})

    assert "cannot write the results: No space left" in one_line(run("stdout"))
    assert run("stderr", "--fail-above", "0").returncode == 1
    if not fresh:
        assert run("stderr", "--data", "nowhere").returncode == 2
        assert run("stderr", "--fail-below", "0").returncode == 0


def test_the_report_as_a_stream_is_written_where_the_stream_stands(r: Path, tmp_path: Path) -> None:
    for name in ("-", "/dev/fd/1"):
        with (tmp_path / "log.txt").open("w+") as log:
            log.write("before\n")
            log.flush()
            done("evaluate", r, "--data", "digits", "--limit", "20", "-q", "--report", name, stdout=log)
            log.write("after\n")
            log.seek(0)
            first, *report, last = log.read().splitlines()
        assert (first, last) == ("before", "after")
        assert json.loads("\n".join(report))["schema"] == "advkit/evaluate/1"


def test_the_report_may_go_to_any_descriptor(r: Path, tmp_path: Path) -> None:
    """As a shell opens it for a new interpreter."""
    command = f"{sys.executable} -m advkit evaluate {r} --data digits --limit 20 -q --report /dev/fd/3 3>three.json"
    subprocess.run(["sh", "-c", command], env=environment(), cwd=tmp_path, check=True)
    assert json.loads((tmp_path / "three.json").read_text())["status"] == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["three.json"]


CHATTY = """
import os, sys
from advkit.models.nets import CNN
print("imported", flush=True)
def net():
    print("made")
    os.system("echo from a child")
    return CNN(10, 1)
"""


def test_other_peoples_prints_leave_stdout_to_the_report(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY)
    found = done("evaluate", "chatty.py:net", "--data", "digits", "--limit", "8", cwd=tmp_path)
    assert json.loads(found.stdout)["status"] == "done"
    assert sorted(found.stderr.splitlines()) == ["from a child", "imported", "made"], "made once"


def test_of_tools_that_share_nothing_only_the_first_process_of_torchrun_works(r: Path, tmp_path: Path) -> None:
    command = ["visualize", "attention", r, "--data", "digits", "--count", "1", "--samples", "1", "-q"]
    command += ["--figure", "a.png"]
    texts = [done(*command, env=environment(WORLD_SIZE="2", RANK=rank), cwd=tmp_path).stdout for rank in "01"]
    assert json.loads(texts[0])["status"] == "done"
    assert texts[1] == ""


def test_a_notebooks_backend_is_not_asked_for(r: Path, tmp_path: Path) -> None:
    env = environment(MPLBACKEND="module://no_such.backend")
    done(
        "visualize",
        "attention",
        r,
        "--data",
        "digits",
        "--count",
        "1",
        "--samples",
        "1",
        "--figure",
        "a.png",
        "-q",
        env=env,
        cwd=tmp_path,
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_shell_completion_knows_tools_and_options() -> None:
    def complete(words: str, place: int) -> list[str]:
        env = environment(_ADVKIT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(place))
        code = "import sys; sys.argv[0] = 'advkit'; from advkit.commands.app import main; main()"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
        return found.stdout.split()

    assert complete("advkit tr", 1) == ["train", "transfer-matrix"]
    assert complete("advkit attack --qu", 2) == ["--quantize", "--quiet"]


def test_a_traceback_only_on_demand(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def net():\n    return 1 / 0\n")
    quiet = advkit("evaluate", "bad.py:net", "--data", "digits", cwd=tmp_path)
    assert "ZeroDivisionError" in one_line(quiet)
    loud = advkit("evaluate", "bad.py:net", "--data", "digits", cwd=tmp_path, env=environment(ADVKIT_DEBUG="1"))
    assert loud.returncode != 0
    assert "Traceback" in loud.stderr
