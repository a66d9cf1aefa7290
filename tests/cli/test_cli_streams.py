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
    "train": "train --arch advkit/cnn --data digits --limit 100 --epochs 2 --batch-size 16 --force -o t.safetensors",
    "attack": "attack {r} --data digits --limit 60 --batch-size 20 --eps 0.3 --method mi,di -o a.safetensors",
    "transfer-matrix": "transfer-matrix First={r} 'A longer name'={r2} Third={r} --data digits --limit 60 "
    "--batch-size 20 --method pgd --method mi --eps 0.3 --compare First:Third,First",
    "evaluate": "evaluate {r} --data digits --limit 60 --batch-size 20",
    "visualize": "visualize attention {r} {r2} --data digits --count 1 --samples 2 --figure f.png",
}
PROGRESS = {"train", "attack", "transfer-matrix", "evaluate"}
ESCAPE = "\x1b"


def arguments(name: str, r: Path, r2: Path) -> list[str]:
    words = re.findall(r"(?:'[^']*'|\S)+", RUNS[name].format(r=r, r2=r2))
    return [word.replace("'", "") for word in words]


@pytest.mark.parametrize("name", RUNS)
def test_report_json_and_quiet_on_a_terminal(name: str, r: Path, r2: Path, tmp_path: Path) -> None:
    command = arguments(name, r, r2)
    status, table, progress = on_terminal(*command, cwd=tmp_path)
    assert status == 0
    assert not table.startswith("{")
    assert max(map(len, table.splitlines())) <= 80
    assert ESCAPE not in table + progress
    assert ("\r" in progress and "left" in progress) == (name in PROGRESS)
    # Drawn over and wiped out at the end: only notes for people may stay.
    assert re.fullmatch(r"(\r[^\r\n]*)*\r?(advkit: note: [^\n]+\n)*", progress)
    status, text, silence = on_terminal(*command, "--json", "--quiet", "--report", "r.json", cwd=tmp_path)
    assert (status, silence) == (0, "")
    assert text == (tmp_path / "r.json").read_text()
    assert json.loads(text)["schema"] == f"advkit/{name}/1"


def test_in_a_pipe_there_is_the_report_and_nothing_else(r: Path, r2: Path, tmp_path: Path) -> None:
    for name in RUNS:
        found = done(*arguments(name, r, r2), cwd=tmp_path)
        assert json.loads(found.stdout)["schema"] == f"advkit/{name}/1"
        assert all(line.startswith("advkit: note: ") for line in found.stderr.splitlines())
    for name in ("evaluate", "transfer-matrix"):  # one function writes all reports
        into_file = done(*arguments(name, r, r2), "--report", "r.json", "-q", cwd=tmp_path)
        assert (into_file.stdout, into_file.stderr) == ("", "")
        both = done(*arguments(name, r, r2), "--report", "r.json", "--json", cwd=tmp_path)
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


@pytest.mark.parametrize("name", [*RUNS, "--help", "--schema"])
def test_a_reader_that_left_is_no_error_and_costs_nothing(name: str, r: Path, r2: Path, tmp_path: Path) -> None:
    """What a shell calls 141, never a gate's 1; what goes into files is whole."""
    more = {"--help": [name], "--schema": [name, "attack"]}
    command = more[name] if name in more else [*arguments(name, r, r2), "--report", "r.json", "--json", "-q"]
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*command, stdout=writing, cwd=tmp_path)
    os.close(writing)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGPIPE, 128 + signal.SIGPIPE)
    assert errors == ""
    if name in RUNS:
        assert json.loads((tmp_path / "r.json").read_text())["status"] == "done"
    if name == "train":
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["r.json", "t.safetensors"]
        done("evaluate", "t.safetensors", "--data", "digits", cwd=tmp_path)


def test_closed_and_full_outputs(r: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m advkit evaluate {r} --data digits --limit 20"

    def shell(more: str) -> subprocess.CompletedProcess[str]:
        words = ["sh", "-c", f"{command} {more}"]
        return subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False)

    closed = shell("--report r.json >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    assert json.loads((tmp_path / "r.json").read_text())["status"] == "done"
    assert shell("2>&-").stdout.startswith("{")
    assert shell("--data nowhere 2>&-").returncode == 2
    if Path("/dev/full").exists():
        assert "No space" in one_line(shell(">/dev/full"))


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
