"""A candidate's numbers are those that the other tools give; shared gradients are R's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from candidates import job
from linear import write_linear
from safetensors.torch import load_file

from advkit.attacks import budget
from advkit.attacks.dataset import CLEAN_WRONG, FOOLED, ROBUST
from advkit.attacks.gradient_similarity import margin_gradients
from advkit.data.augment import augmented
from advkit.evolution import candidate
from advkit.evolution.candidate import TrainingJob, evaluate
from advkit.evolution.evaluation_context import ContextSpec, EvaluationContext, open_context
from advkit.evolution.gradient_cache import recordable
from advkit.files.adversarial import read_adversarial
from advkit.files.errors import InputError
from advkit.metrics.gradient_similarity import cosines
from advkit.models import reference as model_reference
from advkit.tasks.sampling import sample
from advkit.training.params import TrainParams
from advkit.training.run import Diverged, Run


def test_recorded_gradients_are_the_references_own_at_the_images_that_training_sees(context: EvaluationContext) -> None:
    assert context.gradients is not None
    positions = sample(context.task, context.data, context.train, 400, 0)[:64]
    images, labels = context.data.batch(positions)
    indices = context.data.indices[positions]
    for epoch in range(2):
        seen = augmented(images, indices, context.recipe.augment, context.recipe.seed, epoch)
        own = margin_gradients(context.fused_reference, seen, labels)[0]
        assert cosines(context.gradients.at(indices, epoch), own).min() > 0.999
        shuffled = context.gradients.at(indices.flip(0), epoch)
        assert cosines(shuffled, own).mean() < 0.9


def test_an_augmented_recipe_records_what_augmentation_shows(context: EvaluationContext, tmp_path: Path) -> None:
    from advkit.evolution.gradient_cache import GradientCache, record

    params = replace(context.recipe, augment=frozenset(("crop", "flip")))
    positions = context.train[:40]
    record(tmp_path / "g.safetensors", context.reference, context.data, positions, params, "cpu")
    gradients = GradientCache(tmp_path / "g.safetensors", context.data.size, "cpu")
    images, labels = context.data.batch(positions)
    indices = context.data.indices[positions]
    for epoch in range(2):
        seen = augmented(images, indices, params.augment, params.seed, epoch)
        assert (
            cosines(gradients.at(indices, epoch), margin_gradients(context.fused_reference, seen, labels)[0]).min()
            > 0.999
        )
    assert cosines(gradients.at(indices, 0), gradients.at(indices, 1)).mean() < 0.9


def test_candidates_take_recorded_gradients_and_final_trainings_fresh_ones(
    context: EvaluationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []
    monkeypatch.setattr(candidate, "train", lambda run, **options: runs.append(run))
    for recorded in (True, False):
        candidate._train(context, job(recorded=recorded), context.reference)
    assert context.gradients is not None
    assert runs[0].recorded == context.gradients.at
    assert runs[1].recorded is None


def test_only_penalties_at_clean_images_are_recorded() -> None:
    recipe = TrainParams.from_json(open_recipe("noise"))
    assert not recordable(recipe)
    assert recordable(TrainParams.from_json(open_recipe("clean", "noise")))
    assert not recordable(replace(recipe, misalign=None))


def open_recipe(*places: str) -> dict[str, object]:
    from advkit.training.params import MisalignParams

    return TrainParams(misalign=MisalignParams(at=places)).to_json()


def test_a_record_is_what_transfer_matrix_says(
    context: EvaluationContext, context_spec: ContextSpec, tmp_path: Path
) -> None:
    weights = tmp_path / "c.safetensors"
    record = evaluate(context, job(weights=str(weights)))
    found = candidate.measure(context, model_reference.load(str(weights)))
    means = ("cosine", "absolute_cosine")
    assert {name: record[name] for name in found if name not in means} == {
        k: v for k, v in found.items() if k not in means
    }
    assert [record[name] for name in means] == pytest.approx([found[name] for name in means], abs=1e-4)
    network = model_reference.load(write_linear(tmp_path / "l.safetensors", 200))
    found = candidate.measure(context, network)
    labels = context.validation.targets
    images = context.validation.batch(slice(None))[0]
    reference = model_reference.load(context_spec.reference)
    with torch.no_grad():
        correct = (network(images).argmax(1) == labels) & (reference(images).argmax(1) == labels)
        r_fooled, fooled = [], []
        for path in context_spec.adversarial:
            moved = read_adversarial(Path(path)).images(torch.arange(len(labels)))
            assert (moved - images).abs().max() <= 0.15 + 1e-6
            r_fooled.append(reference(moved).argmax(1) != labels)
            fooled.append(network(moved).argmax(1) != labels)
    held = correct & (r_fooled[0] | r_fooled[1])
    both = (r_fooled[0] & fooled[0]) | (r_fooled[1] & fooled[1])
    assert found["cond"] == [int((held & both).sum()), int(held.sum())]
    assert found["by_method"][0] == [int((correct & r_fooled[0] & fooled[0]).sum()), int((correct & r_fooled[0]).sum())]
    assert 0 < found["cond"][0] < found["cond"][1]
    assert found["both"] == [int((correct & (fooled[0] | fooled[1])).sum()), int(correct.sum())]
    assert found["both"] != found["cond"]
    assert found["validation"] == [int((network(images).argmax(1) == labels).sum()), len(labels)]


def test_files_of_adversarial_examples_say_what_became_of_each(
    context: EvaluationContext, context_spec: ContextSpec
) -> None:
    images, labels = context.validation.batch(slice(None))
    reference = model_reference.load(context_spec.reference)
    for path in context_spec.adversarial:
        file = load_file(path)
        correct, now = reference(images).argmax(1) == labels, reference(file["images"]).argmax(1)
        assert torch.equal(file["prediction"], now)
        for outcome, held in (
            (FOOLED, correct & (now != labels)),
            (ROBUST, correct & (now == labels)),
            (CLEAN_WRONG, ~correct),
        ):
            assert torch.equal(file["outcome"] == outcome, held)
        assert 0 < int((file["outcome"] == FOOLED).sum()) != int((file["outcome"] == ROBUST).sum())


def test_controls_are_what_their_names_say(
    context: EvaluationContext, context_spec: ContextSpec, tmp_path: Path
) -> None:
    """Flipped perturbations and noise over the images of T_cond, cosines with R's gradients: each computed anew."""
    network = model_reference.load(write_linear(tmp_path / "l.safetensors", 200))  # so weak that noise fools it
    reference = model_reference.load(context_spec.reference)
    found = candidate.measure(context, network)
    images, labels = context.validation.batch(slice(None))
    held = (network(images).argmax(1) == labels) & (reference(images).argmax(1) == labels)
    r_fooled, flipped, noisy = (torch.zeros_like(held) for _ in range(3))
    draws = []
    for draw, path in enumerate(context_spec.adversarial):
        file = read_adversarial(Path(path))
        moved = file.images(torch.arange(len(labels)))
        r_fooled |= reference(moved).argmax(1) != labels
        flipped |= network((images - (moved - images)).clamp(0, 1)).argmax(1) != labels
        noise = budget.noise(images, context.validation.indices, 0.15, "linf", file.meta["attack"]["seed"] + draw)
        draws.append(network(noise).argmax(1) != labels)
        noisy |= draws[-1]
    held &= r_fooled
    assert int((draws[0] & draws[1] & held).sum()) < int((noisy & held).sum()), "draws differ"
    assert found["flipped"] == [int((flipped & held).sum()), int(held.sum())]
    assert found["noise"] == [int((noisy & held).sum()), int(held.sum())]
    assert int((flipped & ~held).sum()), "some are fooled that do not count"
    opposed = model_reference.load(write_linear(tmp_path / "o.safetensors", sign=-1))
    for one, told in ((network, found), (opposed, candidate.measure(context, opposed))):
        c = cosines(margin_gradients(one, images, labels)[0], margin_gradients(reference, images, labels)[0])
        assert told["cosine"] == pytest.approx(float(c.mean()), abs=1e-4)
        assert told["absolute_cosine"] == pytest.approx(float(c.abs().mean()), abs=1e-4)
    assert told["cosine"] < -0.3


def test_a_record_of_gradients_is_of_its_images_and_epochs_alone(context: EvaluationContext) -> None:
    assert context.gradients is not None
    known = context.data.indices[sample(context.task, context.data, context.train, 400, 0)[:3]]
    context.gradients.at(known, 1)
    unknown = context.validation.indices[:3]
    for indices, epoch in ((unknown, 0), (known, 2), (torch.tensor([10**6]), 0)):
        with pytest.raises(InputError, match="made again"):
            context.gradients.at(indices, epoch)


def test_candidates_never_see_the_images_they_are_measured_on(context: EvaluationContext) -> None:
    assert not set(context.data.indices[context.train].tolist()) & set(context.validation.indices.tolist())
    assert context.data.split == "train"


def test_a_shorter_rung_trains_on_a_part_of_the_longer_one(context: EvaluationContext) -> None:
    whole = sample(context.task, context.data, context.train, 400, 0)
    part = sample(context.task, context.data, whole, 133, 0)
    assert len(part) == 133
    assert set(part.tolist()) < set(whole.tolist())


def test_a_candidate_is_trained_with_the_penalty_on_as_many_images_as_its_rung_has(
    context: EvaluationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []
    monkeypatch.setattr(candidate, "train", lambda run, **options: runs.append(run))
    for images, epochs in ((400, 1), (133, 2), (None, 3)):
        candidate._train(context, job(images=images, epochs=epochs, recorded=False), context.reference)
        run = runs[-1]
        assert run.params == replace(context.recipe, epochs=epochs)
        assert run.params.misalign is not None
        assert list(run.references) == [context.fused_reference]
        assert len(run.train) == (images or len(context.train))
        assert set(run.train.tolist()) <= set(context.train.tolist())


def test_images_that_the_reference_gets_wrong_are_not_its_to_pass_on(context_spec: ContextSpec, tmp_path: Path) -> None:
    """R with one output turned off: what it gets wrong by itself counts neither as fooled nor as held."""
    reference = write_linear(tmp_path / "r.safetensors", without=3)
    worse = open_context(replace(context_spec, reference=reference, gradients=None))
    threes = worse.validation.targets.numpy() == 3
    assert threes.any()
    assert not worse.correct[threes].any()
    assert worse.correct[~threes].any()
    network = model_reference.load(str(context_spec.reference))
    own = open_context(context_spec)
    assert candidate.measure(worse, network)["cond"][1] < candidate.measure(own, network)["cond"][1]


def test_equal_jobs_give_equal_bytes_and_the_seed_matters(context: EvaluationContext, tmp_path: Path) -> None:
    names = [tmp_path / f"{k}.safetensors" for k in range(3)]
    for name, seed in zip(names, (3, 3, 4), strict=True):
        evaluate(context, job(weights=str(name), seed=seed))
    one, two, three = (name.read_bytes() for name in names)
    assert one == two
    assert one != three


def test_divergence_is_a_record_not_an_end(context: EvaluationContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(run: Run, **options: object) -> None:
        raise Diverged("training diverged: the loss is not finite")

    monkeypatch.setattr(candidate, "train", diverge)
    found = evaluate(context, job())
    assert "diverged" in found["error"]
    assert found.get("cond") is None


def test_weights_that_are_not_finite_are_no_candidate(
    context: EvaluationContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is looked at before the last step: what that step breaks must not get into a record."""

    def broken(context: EvaluationContext, job: TrainingJob, network: torch.nn.Module) -> None:
        next(network.parameters()).data.fill_(float("nan"))
        network.eval().requires_grad_(False)

    monkeypatch.setattr(candidate, "_train", broken)
    found = evaluate(context, job(weights=str(tmp_path / "c.safetensors")))
    assert "not finite" in found["error"]
    assert not (tmp_path / "c.safetensors").exists()
    json.dumps(found, allow_nan=False)
