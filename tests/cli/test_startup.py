"""What a command imports is what it uses: start-up time is part of the product."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from executable import environment

WATCHED = ("torch._dynamo", "timm", "torchvision", "matplotlib", "PIL", "scipy", "sympy", "ray")
CODE = """
import json, sys
from advkit.commands.app import run
status = run(sys.argv[2:])
json.dump([name for name in json.loads(sys.argv[1]) if name in sys.modules], sys.stderr)
sys.exit(status)
"""
USED = {
    "evaluate {r} --data digits --limit 8 -q": set(),
    "attack {r} --data digits --limit 8 --method mi,di,ti,si,ni -q -o {out}/a.safetensors": set(),
    "transfer-matrix R={r} S={r} --data digits --limit 8 -q": set(),
    "transfer-matrix R={r} S={r} --data digits --limit 8 -q --figure {out}/m.png": {"matplotlib", "PIL"},
    "train --init {r} --epochs 0 -q -o {out}/t.safetensors": set(),
    "attack {r} --data digits --limit 2 -q -o {out}/pngs": {"PIL"},
}


@pytest.mark.parametrize("command", USED)
def test_a_command_imports_what_it_uses(command: str, r: Path, tmp_path: Path) -> None:
    arguments = command.format(r=r, out=tmp_path).split()
    found = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(WATCHED), *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    assert set(json.loads(found.stderr)) == USED[command]


def test_waiting_threads_sleep_unless_the_user_says_otherwise() -> None:
    """On a busy machine spinning ones make small batches ten times as slow."""
    code = "import os, sys; sys.argv[1:] = ['--version']; from advkit.commands.app import main\n"
    code += "try: main()\nexcept SystemExit: print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(**given), check=True
        )
        assert found.stdout.split()[-1] == expected
