"""Python reads this at its start: SIGKILL for the run before its n-th file operation below a directory.

KILLED_BELOW   the directory
KILLED_AT      n, counted in each process of the run; 0 kills nothing
KILLED_COUNT   where the count is written when the process ends, and after how many seconds the first one came
"""

import atexit
import os
import signal
import sys
import time

below, at = os.environ["KILLED_BELOW"], int(os.environ["KILLED_AT"])
run = int(os.environ.setdefault("KILLED_RUN", str(os.getpid())))  # workers inherit it
count, began, first = 0, time.monotonic(), 0.0


def watch(event, arguments):
    global count, first
    if event in ("open", "os.rename", "os.remove", "os.chmod", "os.mkdir", "os.truncate") and arguments:
        try:
            path = os.path.abspath(os.fsdecode(arguments[0]))
        except TypeError:  # a file descriptor
            return
        if path.startswith(below):
            count += 1
            first = first or time.monotonic() - began
            if count == at:
                os.kill(run, signal.SIGKILL)


def note():
    if os.getpid() == run:
        with open(os.environ["KILLED_COUNT"], "w") as file:
            file.write(f"{count} {first}")


sys.addaudithook(watch)
atexit.register(note)
