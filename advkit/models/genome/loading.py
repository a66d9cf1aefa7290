"""``advkit/genome`` as an architecture: where its genome comes from, and the network that it gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError
from advkit.models.config import Size
from advkit.models.genome.canonical import canonical
from advkit.models.genome.decode import GenomeNet
from advkit.models.genome.genes import Genome, from_json, to_json
from advkit.models.genome.presets import named

_MOST_BYTES = 1_000_000  # the largest genome has some 50,000


def read(name: str) -> dict[str, Any]:
    """Canonical JSON of the genome in the file ``name`` (JSON, or a checkpoint), or of the one made by hand so called.

    Raises:
        InputError: no such genome; a file that holds none.
    """
    path = Path(name)
    is_file = path.suffix in (".json", ".safetensors") or path.is_file()
    genome = _read_file(path) if is_file else named(name)
    return to_json(canonical(genome))


def build(num_classes: int, input_size: Size, model_args: Mapping[str, Any]) -> nn.Module:
    """The network of ``model_args["genome"]``, its weights drawn from the global random state.

    Raises:
        InputError: other arguments; a genome that is not sound or can't take such images.
    """
    return GenomeNet(_genome(model_args), num_classes, input_size)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of model arguments mean the same network.

    Raises:
        InputError: one that means none.
    """
    return canonical(_genome(one)) == canonical(_genome(other))


def _genome(model_args: Mapping[str, Any]) -> Genome:
    if set(model_args) != {"genome"}:
        extra = ", ".join(sorted(set(model_args) - {"genome"}))
        found = f"takes no model argument {extra[:60]}" if extra else "is no network without a genome"
        raise InputError(f"advkit/genome: {found}; write advkit/genome:NAME or advkit/genome:FILE.json")
    return from_json(model_args["genome"])


def _read_file(path: Path) -> Genome:
    if path.suffix == ".safetensors":
        meta = read_checkpoint(path).meta
        if meta["architecture"] != "advkit/genome":
            raise InputError(f"{path}: is {meta['architecture']}, whose architecture is no genome; name that instead")
        return _genome(meta["model_args"])
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_MOST_BYTES))  # what is longer ends in the middle, and is refused for it
    except FileNotFoundError:
        raise InputError(f"{path}: no such genome file; check the path after advkit/genome:") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: not the JSON of a genome ({error.msg}, {where}); check the file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not the JSON of a genome ({type(error).__name__}); check the path") from error
    try:
        return from_json(value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
