"""What a command imports is what it uses: start-up time is part of the product."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from executable import environment

WATCHED = ("torch._dynamo", "timm", "torchvision", "matplotlib", "PIL", "scipy", "sympy", "ray")
CODE = """
import json, os, sys
from advkit.commands.app import run
watched, commands = json.loads(sys.argv[1])
output, imported = os.dup(1), []
os.dup2(2, 1)
for command in commands:
    assert run(command.split()) == 0, command
    imported.append([name for name in watched if name in sys.modules])
os.write(output, json.dumps(imported).encode())
"""
# In this order in one process: what an earlier command imports, a later one may.
USED = {
    "evaluate {r} --data digits --limit 8 -q": set(),
    "attack {r} --data digits --limit 8 --method mi,di,ti,si,ni -q -o {out}/a.safetensors": set(),
    "transfer-matrix R={r} S={r} --data digits --limit 8 -q": set(),
    "train --init {r} --epochs 0 -q -o {out}/t.safetensors": set(),
    "attack {r} --data digits --limit 2 -q -o {out}/pngs": {"PIL"},
    "transfer-matrix R={r} S={r} --data digits --limit 8 -q --figure {out}/m.png": {"matplotlib", "PIL"},
}


def test_a_command_imports_what_it_uses(r: Path, tmp_path: Path) -> None:
    commands = [command.format(r=r, out=tmp_path) for command in USED]
    words = [sys.executable, "-c", CODE, json.dumps([WATCHED, commands])]
    found = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert found.returncode == 0, found.stderr
    assert dict(zip(USED, map(set, json.loads(found.stdout)), strict=True)) == USED


def test_waiting_threads_sleep_unless_the_user_says_otherwise() -> None:
    """On a busy machine spinning ones make small batches ten times as slow."""
    code = "import os, sys; sys.argv[1:] = ['--version']; from advkit.commands.app import main\n"
    code += "try: main()\nexcept SystemExit: print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        found = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(**given), check=True
        )
        assert found.stdout.split()[-1] == expected
