"""What a finished search is said to be: flags with counts, and who stands where in the figure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from executable import load

from advkit.evolution import run_search
from advkit.evolution.offspring import Proposal
from advkit.evolution.params import SearchParams
from advkit.evolution.search import Individual, Result
from advkit.figures import front
from advkit.figures.front import Group
from advkit.models.genome.presets import named
from advkit.reports import evolve_figure
from advkit.reports.evolve import EvolveResult, Measured, Other, flags
from advkit.reports.rates import rate

RESULTS = Path(__file__).parents[1] / "studies/evolution/results/E.json"


@pytest.fixture
def calm() -> EvolveResult:
    """The study's search, with nothing to complain of: noise and flipped perturbations fool nobody."""
    found = EvolveResult.model_validate(load(RESULTS)["result"])
    for one in [*found.finalists, *found.front, *found.baselines, *found.members, found.chosen]:
        assert one is not None
        if one.measured is not None:
            set_controls(one.measured, 0, 0)
    assert found.like is not None
    set_controls(found.like, 0, 0)
    return found.model_copy(update={"failed": 0, "bound_kept": True, "reference_trained_on": rate(0, 1000)})


def set_controls(measured: Measured, noise: int, flipped: int) -> None:
    total = measured.cond.total
    measured.noise, measured.flipped = rate(noise, total), rate(flipped, total)


def test_nothing_is_flagged_without_a_reason(calm: EvolveResult) -> None:
    assert flags(calm) == []


def test_every_reason_is_flagged_with_its_counts(calm: EvolveResult) -> None:
    assert "no finalist reaches" in flags(calm.model_copy(update={"bound_kept": False}))[0]
    assert "3 candidate trainings failed" in flags(calm.model_copy(update={"failed": 3}))[0]
    assert (
        "no candidate reaches the accuracy floor of 99.0 %" in flags(calm.model_copy(update={"floors": [0.1, 0.99]}))[0]
    )
    seen = flags(calm.model_copy(update={"reference_trained_on": rate(900, 1000)}))
    assert "R was trained on 900 of the 1000 validation images" in seen[0]
    assert "cannot be told" in flags(calm.model_copy(update={"reference_trained_on": None}))[0]
    other = Other(directory="o.run", search="random", front=[], members=2, cost=4, unlike=["--budget 4, not 6"])
    assert flags(calm.model_copy(update={"others": [other.model_copy(update={"unlike": []})]})) == []
    assert (
        "o.run: searched under other terms (--budget 4, not 6)" in flags(calm.model_copy(update={"others": [other]}))[0]
    )
    calm.floors[-1] = max(one.measured.accuracy.rate or 0 for one in calm.members if one.measured)
    assert flags(calm) == [], "one that just reaches it is enough"


@pytest.mark.parametrize("less", [0, 1])
def test_controls_are_flagged_when_they_fool_as_often(calm: EvolveResult, less: int) -> None:
    first = calm.finalists[0].measured
    assert first is not None
    cond = first.cond
    set_controls(first, cond.successes - less, 0)
    assert [f"({cond.successes}/{cond.total}, {cond.successes}/{cond.total})" in flag for flag in flags(calm)] == [
        True
    ] * (1 - less)
    set_controls(first, 0, cond.successes - less)
    assert ["sign-flipped" in flag for flag in flags(calm)] == [True] * (1 - less)
    set_controls(first, 0, 0)
    short = calm.front[0].measured
    assert short is not None
    set_controls(short, short.cond.successes - less, 0)
    networks = len(calm.front) + len(calm.baselines)
    assert [f"1 of the {networks} networks" in flag for flag in flags(calm)] == [True] * (1 - less)


def test_an_e_no_better_than_r_prime_is_flagged(calm: EvolveResult) -> None:
    assert calm.chosen is not None
    assert calm.chosen.measured is not None
    calm.like = calm.chosen.measured
    cond = calm.like.cond
    (flag,) = flags(calm)
    assert flag.startswith(f"R's adversarial examples fool E on {cond.successes}/{cond.total}")


def test_the_population_says_nothing_of_times_and_retries() -> None:
    record = {"id": "a", "error": None, "validation": [9, 10], "cond": [1, 9], "seconds": 1.0, "training_seconds": 0.5}
    states = []
    for attempts, seconds in ((1, 1.0), (2, 30.0)):
        told = record | {"attempts": attempts, "seconds": seconds, "training_seconds": seconds}
        found = Result(members=[Individual(Proposal("a", named("stem7")), told, 0)], population=[0], trainings=[1, 1])
        search_run: Any = SimpleNamespace(params=SearchParams(), floors=[None, None])
        states.append(run_search.population_state(search_run, found))
    assert states[0] == states[1]
    assert states[0]["population"] == [{"id": "a", "error": None, "validation": [9, 10], "cond": [1, 9], "born": 0}]
    assert states[0]["cost"] == pytest.approx(4 / 3)


def test_the_front_figure_has_everyone_in_place(
    calm: EvolveResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(front, "draw", lambda path, groups, **more: drawn.update(groups=groups, **more))
    spec = SimpleNamespace(ref="some/where/R.safetensors")
    search_run: Any = SimpleNamespace(own=SimpleNamespace(name="R'"), reference=SimpleNamespace(spec=spec))
    evolve_figure.draw_front(tmp_path / "f.png", search_run, calm)
    groups: dict[str, Group] = {group.name: group for group in drawn["groups"]}
    assert calm.chosen is not None
    (e,) = groups["of these, E"].points
    (own,) = [one.measured for one in calm.members if one.id == calm.chosen.id]
    assert own is not None
    assert (e.x, e.y) == (own.accuracy.rate, own.cond.rate)
    ids = {one.id for one in calm.front}
    assert len(groups["front of evolution"].points) == len(ids)
    assert len(groups["evolution"].points) == len(calm.members) - len(ids)
    assert [point.label for point in groups["R's architecture"].points] == ["R'"]
    assert {point.label for point in groups["made by hand"].points} == {one.name for one in calm.baselines} - {"R'"}
    assert drawn["floor"] == calm.floors[-1]
    assert drawn["title"].endswith("R.safetensors")
