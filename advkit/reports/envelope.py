"""The report: one JSON document for each run, with the same envelope for every tool.

pydantic and torch are imported with this module, so commands import it late.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field

import advkit
from advkit.data.images import ImageSet
from advkit.files import streams
from advkit.files.atomic import write_text
from advkit.models.network import Network
from advkit.models.resized import Resized
from advkit.reports.adapt import AdaptResult
from advkit.reports.adv_pretrain import AdvPretrainResult
from advkit.reports.attack import AttackResult
from advkit.reports.clock import Clock
from advkit.reports.domain_distance import DomainDistanceResult
from advkit.reports.evaluate import EvaluateResult
from advkit.reports.evolve import EvolveResult
from advkit.reports.gates import Gate
from advkit.reports.train import TrainResult
from advkit.reports.transfer_matrix import TransferMatrixResult
from advkit.reports.visualize import VisualizeResult
from advkit.reports.visualize_features import FeaturesResult


class Input(BaseModel):
    """A model or a data set that the run read."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["model", "data"]
    ref: str
    sha256: str = Field(description="of a model's weights, or of a data set's pixels, labels and indices")
    name: str | None = None
    split: str | None = None
    images: int | None = None
    parameters: int | None = None
    resized_to: tuple[int, int] | None = Field(
        default=None, description="height and width to which a model resizes the images; null where they fit"
    )
    crop_pct: float | None = Field(
        default=None,
        description="part of a scaled picture's shorter side that the cut from its centre leaves; null for arrays",
    )
    interpolation: str | None = Field(default=None, description="of pictures when they are scaled; null for arrays")


class Host(BaseModel):
    """Where the run took place."""

    model_config = ConfigDict(extra="forbid")
    torch: str
    cpu: str
    gpu: str | None = None
    threads: int
    processes: int = 1


class Wanted(Protocol):
    """What the options of every tool say of its report."""

    @property
    def seed(self) -> int: ...
    @property
    def report(self) -> Path | None: ...
    @property
    def as_json(self) -> bool: ...
    @property
    def quiet(self) -> bool: ...


ResultT = TypeVar("ResultT", bound=BaseModel)


class Report(BaseModel, Generic[ResultT]):
    """The envelope."""

    model_config = ConfigDict(extra="forbid")
    schema_: str = Field(alias="schema")
    version: str
    command: list[str]
    status: Literal["done", "gate-failed", "failed"]
    started: str = Field(description="UTC, ISO 8601")
    seconds: float
    seed: int
    device: str
    host: Host
    params: dict[str, Any]
    inputs: list[Input]
    result: ResultT
    flags: list[str] = Field(description="reasons for suspicion, in words")


TOOLS: dict[str, type[Report[Any]]] = {
    "train": Report[TrainResult],
    "adv-pretrain": Report[AdvPretrainResult],
    "adapt": Report[AdaptResult],
    "attack": Report[AttackResult],
    "transfer-matrix": Report[TransferMatrixResult],
    "evolve": Report[EvolveResult],
    "domain-distance": Report[DomainDistanceResult],
    "evaluate": Report[EvaluateResult],
    "visualize": Report[VisualizeResult | FeaturesResult],
}


SCHEMAS: dict[str, type[Report[Any]]] = {
    **TOOLS,
    "visualize attention": Report[VisualizeResult],
    "visualize features": Report[FeaturesResult],
}


def schema_text(tool: str) -> str:
    """The JSON schema of a tool's report, or of that of one of its commands alone."""
    schema = SCHEMAS[tool].model_json_schema(by_alias=True)
    name, _, part = tool.partition(" ")
    schema["$id"] = f"advkit/{name}/1{part and f'/{part}'}"
    schema["title"] = f"advkit {tool} report"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def report_text(report: Report[Any]) -> str:
    """The report as JSON: sorted keys, no NaN.

    Raises:
        ValueError: a NaN or an infinity, which a report never holds.
    """
    return json.dumps(report.model_dump(by_alias=True), sort_keys=True, indent=2, allow_nan=False) + "\n"


def model_input(network: Network, name: str | None = None) -> Input:
    """A network as a report's input."""
    return Input(
        kind="model",
        ref=network.spec.ref,
        sha256=network.spec.sha256,
        name=name,
        parameters=sum(parameter.numel() for parameter in network.net.parameters()),
        resized_to=network.net.size if isinstance(network.net, Resized) else None,
    )


def data_input(data: ImageSet) -> Input:
    """A data set as a report's input."""
    return Input(
        kind="data",
        ref=data.ref,
        sha256=data.fingerprint,
        split=data.split,
        images=len(data),
        crop_pct=data.resize.crop_pct if data.resize else None,
        interpolation=data.resize.interpolation if data.resize else None,
    )


def data_flags(data: ImageSet) -> list[str]:
    """What a data set's reader had to say, as a report's flags."""
    return [f"{data.ref}: {line}" for line in data.warnings]


def finish(
    tool: str,
    result: BaseModel,
    wanted: Wanted,
    *,
    table: Callable[[], Sequence[str]],
    clock: Clock,
    device: str,
    params: dict[str, Any],
    inputs: Sequence[Input],
    flags: Sequence[str] = (),
    passed: Sequence[Gate] = (),
    processes: int = 1,
    threads: int | None = None,
    complete: bool = True,
) -> int:
    """Write the report where it belongs; returns the exit status: 1 if a gate failed.

    A run that is not ``complete`` has not written what it was asked for: the caller says why.
    """
    failed = [gate for gate in passed if not gate.passed]
    report = TOOLS[tool](
        schema=f"advkit/{tool}/1",
        version=advkit.__version__,
        command=["advkit", *sys.argv[1:]],
        status="failed" if not complete else "gate-failed" if failed else "done",
        started=clock.started,
        seconds=clock.seconds(),
        seed=wanted.seed,
        device=device,
        host=_host(device, processes, threads),
        params=params,
        inputs=list(inputs),
        result=result,
        flags=list(flags),
    )
    _write(report_text(report), wanted, table)
    for flag in flags if not wanted.quiet else ():
        streams.say(f"advkit: note: {flag}")
    for gate in failed:
        streams.say(f"advkit: gate failed: {gate.what} is {gate.value_text}, {gate.option} {gate.bound:g}")
    return 1 if failed else 0


def _write(text: str, wanted: Wanted, table: Callable[[], Sequence[str]]) -> None:
    out = streams.results()
    stream = None if wanted.report is None else streams.named(wanted.report)
    if wanted.report is not None and stream is None:
        write_text(wanted.report, text)
    with streams.for_readers(*(open_stream for open_stream in (stream, out) if open_stream is not None)):
        if stream is not None:
            stream.write(text)
            stream.flush()
        if stream is not out:
            if wanted.as_json or (wanted.report is None and not out.isatty()):
                out.write(text)
            elif out.isatty():
                out.write("\n".join(table()) + "\n")
        out.flush()


def _host(device: str, processes: int, threads: int | None) -> Host:
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    threads = threads or torch.get_num_threads()
    return Host(torch=torch.__version__, cpu=cpu, gpu=gpu, threads=threads, processes=processes)
