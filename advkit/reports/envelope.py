"""The report: one JSON document for each run, with the same envelope for every tool.

pydantic is imported with this module, so commands import it late.
"""

from __future__ import annotations

import json
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from advkit.reports.evolve import EvolveResult
from advkit.reports.results import AttackResult, EvaluateResult, TrainResult, TransferMatrixResult, VisualizeResult


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


class Host(BaseModel):
    """Where the run took place."""

    model_config = ConfigDict(extra="forbid")
    torch: str
    cpu: str
    gpu: str | None = None
    threads: int
    processes: int = 1


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
    "attack": Report[AttackResult],
    "transfer-matrix": Report[TransferMatrixResult],
    "evolve": Report[EvolveResult],
    "evaluate": Report[EvaluateResult],
    "visualize": Report[VisualizeResult],
}


def schema_text(tool: str) -> str:
    """The JSON schema of a tool's report."""
    schema = TOOLS[tool].model_json_schema(by_alias=True)
    schema["$id"] = f"advkit/{tool}/1"
    schema["title"] = f"advkit {tool} report"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def report_text(report: Report[Any]) -> str:
    """The report as JSON: sorted keys, no NaN.

    Raises:
        ValueError: a NaN or an infinity, which a report never holds.
    """
    return json.dumps(report.model_dump(by_alias=True), sort_keys=True, indent=2, allow_nan=False) + "\n"
