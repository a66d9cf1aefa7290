"""Python reads this at its start: SIGKILL for the run before its n-th file operation below a directory,
or, where that opens a file to write it, once it is half written.

KILLED_BELOW   the directory
KILLED_AT      n, counted in each process of the run; 0 kills nothing
KILLED_COUNT   where the count is written when the process ends, and after how many seconds the first one came
"""

import atexit
import os
import resource
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
            if count == at and os.getpid() == run and event == "open" and "w" in (arguments[1] or ""):
                tear()
            elif count == at:
                os.kill(run, signal.SIGKILL)


def tear():
    """Let no file grow beyond 100 bytes; the write that would is the run's last."""
    signal.signal(signal.SIGXFSZ, lambda *_: os.kill(run, signal.SIGKILL))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def note():
    if os.getpid() == run:
        with open(os.environ["KILLED_COUNT"], "w") as file:
            file.write(f"{count} {first}")


sys.addaudithook(watch)
atexit.register(note)
