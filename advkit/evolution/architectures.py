"""The architectures that a run is given: R's own, baselines, and genomes to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from advkit.evolution.params import SearchParams
from advkit.files.errors import InputError
from advkit.models import build
from advkit.models.genome.genes import Genome, from_json
from advkit.models.genome.limits import why_invalid
from advkit.models.network import ModelSpec, Network


@dataclass(frozen=True)
class BaselineArchitecture:
    """A network made by hand that is trained as the candidates are."""

    name: str
    architecture: str
    model_args: dict[str, Any]


def own_architecture(reference: ModelSpec, accuracy_floor: float | None) -> BaselineArchitecture:
    """R's own architecture: R' at a candidate's budget.

    Raises:
        InputError: a reference from a Python file, which is not built anew, without a floor.
    """
    if ".py:" in reference.architecture and accuracy_floor is None:
        raise InputError(
            f"{reference.ref}: its architecture is a Python file; give --accuracy-floor, for it isn't rebuilt"
        )
    return BaselineArchitecture("R'", reference.architecture, dict(reference.model_args))


def baselines(refs: Sequence[str], reference: ModelSpec) -> list[BaselineArchitecture]:
    """The architectures of ``--baseline``.

    Raises:
        InputError: one that does not exist or fit, or that is given twice.
    """
    found = []
    for ref in refs:
        spec = _build("--baseline", ref, reference).spec
        found.append(BaselineArchitecture(ref, spec.architecture, dict(spec.model_args)))
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--baseline {name}: given twice; drop one")
    return found


def first_genomes(refs: Sequence[str], reference: ModelSpec, params: SearchParams) -> list[Genome]:
    """Genomes of ``--begin-with``, with which the first generation begins.

    Raises:
        InputError: no genome, one beyond the limits, or more than a generation has.
    """
    found = []
    for ref in refs:
        spec = _build("--begin-with", ref, reference).spec
        if spec.architecture != "advkit/genome":
            raise InputError(f"--begin-with {ref}: is no genome; write advkit/genome:NAME or advkit/genome:FILE.json")
        genome = from_json(spec.model_args["genome"])
        fault = why_invalid(genome, reference.num_classes, reference.input_size, params.limits)
        if fault is not None:
            raise InputError(f"--begin-with {ref}: has {fault}; raise the limits, or leave it out")
        found.append(genome)
    if len(found) > params.offspring:
        raise InputError(
            f"--begin-with: {len(found)} genomes, but a generation of {params.offspring}; raise --offspring"
        )
    return found


def _build(option: str, ref: str, reference: ModelSpec) -> Network:
    """The architecture ``ref`` for R's images and classes, with fresh weights."""
    try:
        return build.create(ref, num_classes=reference.num_classes, input_size=reference.input_size)
    except InputError as error:
        raise InputError(f"{option} {ref}: {error}") from error
