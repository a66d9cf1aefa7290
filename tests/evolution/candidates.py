"""A small candidate, for tests that train it."""

from __future__ import annotations

from dataclasses import replace

from advkit.evolution.candidate import TrainingJob
from advkit.evolution.training_scheduler import ARCHITECTURE
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import Genome, to_json
from advkit.models.genome.presets import named


def small() -> Genome:
    genome = named("stem7")
    nodes = tuple(replace(node, channels=16, stride=1, depth=1) for node in genome.nodes[:2])
    return replace(genome, stem=replace(genome.stem, kind="conv3", channels=16), nodes=nodes, output=2)


def job(**changes: object) -> TrainingJob:
    args = {"genome": to_json(canonical(small()))}
    return replace(TrainingJob("a", ARCHITECTURE, args, images=400, epochs=2, seed=3), **changes)  # type: ignore[arg-type]
