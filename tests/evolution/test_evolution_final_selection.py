"""Which finalist becomes E, and how finalists are trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from advkit.evolution.final_selection import choose, floors
from advkit.evolution.offspring import Proposal
from advkit.evolution.params import SearchParams, seed_of
from advkit.evolution.run_directory import SPEC, RunDirectory
from advkit.evolution.training_scheduler import TrainingScheduler
from advkit.models.genome.limits import cost
from advkit.models.genome.presets import named
from advkit.parallel.executor import Executor
from advkit.parallel.task import TaskResult


def final(name: str, correct: int, fooled: int) -> dict[str, Any]:
    return {"id": name, "error": None, "validation": [correct, 100], "cond": [fooled, 50]}


FINALS = [final("a", 70, 5), final("b", 66, 2), final("c", 69, 5), {"id": "d", "error": "training diverged"}]


def test_the_lowest_t_cond_of_those_accurate_enough() -> None:
    for rival, chosen, kept in ((0.68, "b", True), (0.69, "a", True), (0.9, "a", False), (None, "a", True)):
        found = choose(FINALS, rival)
        assert found is not None
        assert (found.id, found.kept) == (chosen, kept), rival
    assert choose(FINALS[3:], 0.1) is None


def test_of_equals_the_more_accurate() -> None:
    found = choose([final("c", 69, 5), final("a", 70, 5)], None)
    assert found is not None
    assert found.id == "a"


class Recorder:
    """An engine that does nothing but remember the order of its items, and answers back to front."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def map(self, items: Sequence[Any]) -> Iterator[TaskResult]:
        self.asked += [item.id for item in items]
        for place in reversed(range(len(items))):
            yield TaskResult(place, {"error": None, "name": items[place].id}, None, 1, 0.0)


def test_the_longest_training_begins_first_and_records_come_in_the_order_asked(tmp_path: Path) -> None:
    children = [Proposal(name, named(name)) for name in ("patch", "stem7", "resnet20", "vgg-small")]
    sizes = {child.id: cost(child.genome, 10, (3, 32, 32)).multiply_adds for child in children}
    engine = Recorder()
    trainings = TrainingScheduler(
        RunDirectory(tmp_path / "run", {}),
        cast(Executor, engine),
        SearchParams(),
        *(100, 1, lambda genome: cost(genome, 10, (3, 32, 32)).multiply_adds, lambda record: None),
    )
    records = trainings(children, 0, 0)
    assert engine.asked == sorted(sizes, key=lambda name: -sizes[name]) != [child.id for child in children]
    assert [(record["id"], record["name"]) for record in records] == [(child.id,) * 2 for child in children]


def opened(folder: Path, params: SearchParams, engine: Recorder) -> TrainingScheduler:
    """Trainings of 900 images and 3 epochs in a run directory that lets go of its lock at once."""
    directory = RunDirectory(folder / "run", {"spec": SPEC})
    directory.close()
    return TrainingScheduler(directory, cast(Executor, engine), params, 900, 3, lambda genome: 1, lambda record: None)


def test_candidates_and_r_prime_are_trained_as_long_as_their_rung_says(tmp_path: Path) -> None:
    engine, child = Recorder(), Proposal("stem7", named("stem7"))
    trainings = opened(tmp_path, SearchParams(rungs=3, seed=7), engine)
    for rung, images in enumerate((100, 300, 900)):
        own = trainings.baseline("R'", "advkit/cnn", {}, rung).job
        job = trainings._trial(child, rung, 0).job
        assert (job.images, job.epochs, job.seed) == (images, 3, seed_of(7, "stem7"))
        assert (own.images, own.epochs, own.seed) == (images, 3, seed_of(7, "R'"))
        assert (job.weights is not None) == job.controls == (rung == 2)
        assert job.recorded
        assert own.recorded
        assert own.controls


def test_hand_made_networks_are_trained_again_when_they_failed_or_became_others(tmp_path: Path) -> None:
    engine = Recorder()
    trainings = opened(tmp_path, SearchParams(), engine)

    def ask(args: dict[str, Any], *, again: bool = False) -> int:
        before = len(engine.asked)
        (record,) = trainings.run([trainings.baseline("g.json", "advkit/genome", args, 0)], again=again)
        assert record["model_args"] == args
        return len(engine.asked) - before

    assert [ask({"genome": 1}), ask({"genome": 1}), ask({"genome": 2}), ask({"genome": 2})] == [1, 0, 1, 0]
    trainings.directory.known["g.json", "rung0"]["error"] = "worker died"
    assert [ask({"genome": 2}), ask({"genome": 2}, again=True), ask({"genome": 2}, again=True)] == [0, 1, 0]


def test_floors_lie_as_far_from_r_prime_at_every_rung() -> None:
    assert floors([0.3, 0.5, 0.8], None) == pytest.approx([0.28, 0.48, 0.78])
    assert floors([0.3, 0.5, 0.8], 0.7) == pytest.approx([0.2, 0.4, 0.7])
    assert floors([0.01, 0.5], None)[0] == 0.0
    for reached in range(1000):
        assert floors([0.5, reached / 1000], 0.3)[-1] == 0.3, "just what was asked for"


def test_finalists_inherit_nothing(tmp_path: Path) -> None:
    params = SearchParams(inherit=True)
    trainings = TrainingScheduler(
        RunDirectory(tmp_path / "run", {}), cast(Executor, None), params, 100, 1, lambda genome: 1, lambda record: None
    )
    parent, child = (Proposal(name, named(name), parents) for name, parents in (("stem7", ()), ("patch", ("stem7",))))
    trainings._genomes[parent.id] = parent.genome
    assert trainings._trial(child, 0, 1).job.start is not None, "a candidate does"
    job = trainings.final(child, 6, 1).job
    assert job.start is None
    assert not job.carry
    assert (job.images, job.epochs, job.seed, job.recorded) == (None, 6, 1, False)
