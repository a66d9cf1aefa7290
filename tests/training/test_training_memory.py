"""Freed memory is kept: taking it again meets no page of the system's."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from advkit.files.malloc import tune_malloc

if sys.argv[1] == "keep":
    tune_malloc()

def step():
    a, b = np.ones(1 << 23), np.ones(1 << 23)  # 64 MiB each, both there at once
    del a, b

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory as it likes")
def test_memory_taken_again_is_not_faulted_in_again() -> None:
    assert faults("keep") * 20 < faults("leave")
