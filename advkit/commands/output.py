"""Reports, tables and progress: data on stdout, everything else on stderr."""

from __future__ import annotations

import datetime
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import advkit
from advkit.files.atomic import write_text

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.models.network import Network
    from advkit.reports.envelope import Host, Input
    from advkit.reports.results import Gate, Rate


class Clock:
    """When a run began, and how long it has been running."""

    def __init__(self) -> None:
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.perf_counter() - self._began, 3)


class Progress:
    """One line on stderr, redrawn at most ten times a second, on a terminal only."""

    def __init__(self, quiet: bool) -> None:
        self._on = not quiet and sys.stderr.isatty()
        self._last, self._began, self._width = 0.0, time.perf_counter(), 0

    def show(self, text: str, *, force: bool = False) -> None:
        """Replace the line by ``text``."""
        now = time.perf_counter()
        if self._on and (force or now - self._last > 0.1):
            self._last = now
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            text = text[: columns - 1]
            sys.stderr.write(f"\r{text.ljust(self._width)}")
            sys.stderr.flush()
            self._width = len(text)

    def step(self, what: str, done: int, total: int) -> None:
        """``what``, the share that is done, and the time left."""
        spent = time.perf_counter() - self._began
        left = spent / max(done, 1) * (total - done)
        self.show(f"{what}  {done}/{total}  {duration(left)} left")

    def clear(self) -> None:
        """Take the line away."""
        if self._on and self._width:
            sys.stderr.write(f"\r{' ' * self._width}\r")
            sys.stderr.flush()
            self._width = 0


def duration(seconds: float) -> str:
    """``75`` as ``1:15``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def hint(text: str, quiet: bool) -> None:
    """A line on stderr for people."""
    if not quiet:
        sys.stderr.write(f"advkit: {text}\n")


def rate(successes: int, total: int) -> Rate:
    """Counts with their proportion and interval."""
    from advkit.metrics.intervals import wilson
    from advkit.reports.results import Rate

    return Rate(
        successes=successes,
        total=total,
        rate=successes / total if total else None,
        interval=wilson(successes, total),
    )


def percent(value: Rate) -> str:
    """``43.2 % [40.1, 46.3] (432/1000)``."""
    if value.rate is None or value.interval is None:
        return "- (0/0)"
    low, high = value.interval
    return f"{100 * value.rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({value.successes}/{value.total})"


def budget(norm: str, eps: float) -> str:
    """``Linf eps 8/255``: in levels of 8 bits where eps is a whole number of them."""
    levels = round(eps * 255)
    whole = norm == "linf" and levels and abs(eps * 255 - levels) < 1e-6
    return f"{'Linf' if norm == 'linf' else 'L2'} eps {f'{levels}/255' if whole else f'{eps:.4g}'}"


def gates(what: str, value: float | None, fail_above: float | None, fail_below: float | None) -> list[Gate]:
    """The bounds asked for; a rate without any image keeps no bound."""
    from advkit.reports.results import Gate

    found = []
    if fail_above is not None:
        passed = value is not None and value <= fail_above
        found.append(Gate(option="--fail-above", bound=fail_above, what=what, value=value, passed=passed))
    if fail_below is not None:
        passed = value is not None and value >= fail_below
        found.append(Gate(option="--fail-below", bound=fail_below, what=what, value=value, passed=passed))
    return found


def model_input(network: Network, name: str | None = None) -> Input:
    """A network as a report's input."""
    from advkit.reports.envelope import Input

    count = sum(parameter.numel() for parameter in network.net.parameters())
    return Input(kind="model", ref=network.spec.ref, sha256=network.spec.sha256, name=name, parameters=count)


def data_input(data: ImageSet) -> Input:
    """A data set as a report's input."""
    from advkit.reports.envelope import Input

    return Input(kind="data", ref=data.ref, sha256=data.fingerprint, split=data.split, images=len(data))


def finish(
    tool: str,
    result: Any,
    *,
    table: Callable[[], Sequence[str]],
    clock: Clock,
    seed: int,
    device: str,
    params: dict[str, Any],
    inputs: Sequence[Input],
    flags: Sequence[str] = (),
    report_file: Path | None,
    as_json: bool,
    quiet: bool,
    passed: Sequence[Gate] = (),
    processes: int = 1,
    threads: int | None = None,
    complete: bool = True,
) -> int:
    """Write the report where it belongs; returns the exit status: 1 if a gate failed.

    A run that is not ``complete`` has not written what it was asked for: the caller says why.
    """
    from advkit.reports.envelope import TOOLS, report_text

    failed = [gate for gate in passed if not gate.passed]
    report = TOOLS[tool](
        schema=f"advkit/{tool}/1",
        version=advkit.__version__,
        command=["advkit", *sys.argv[1:]],
        status="failed" if not complete else "gate-failed" if failed else "done",
        started=clock.started,
        seconds=clock.seconds(),
        seed=seed,
        device=device,
        host=_host(device, processes, threads),
        params=params,
        inputs=list(inputs),
        result=result,
        flags=list(flags),
    )
    text = report_text(report)
    if report_file is not None:
        write_text(report_file, text)
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # everything is written: a reader may leave now
    if as_json or (report_file is None and not sys.stdout.isatty()):
        sys.stdout.write(text)
    elif sys.stdout.isatty():
        sys.stdout.write("\n".join(table()) + "\n")
    sys.stdout.flush()
    signal.signal(signal.SIGPIPE, before)
    for flag in flags:
        hint(f"note: {flag}", quiet)
    for gate in failed:
        value = "no images" if gate.value is None else f"{gate.value:.4f}"
        sys.stderr.write(f"advkit: gate failed: {gate.what} is {value}, {gate.option} {gate.bound:g}\n")
    return 1 if failed else 0


def _host(device: str, processes: int, threads: int | None) -> Host:
    import torch

    from advkit.reports.envelope import Host

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    threads = threads or torch.get_num_threads()
    return Host(torch=torch.__version__, cpu=cpu, gpu=gpu, threads=threads, processes=processes)
