"""A final training is what ``train`` does, goes on where it was interrupted, and may begin with a parent's weights."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from candidates import job, small

from advkit.evolution import candidate
from advkit.evolution.candidate import evaluate
from advkit.evolution.evaluation_context import ContextSpec, EvaluationContext
from advkit.evolution.training_scheduler import inherited_weights
from advkit.evolution.variation import mutate, random_genome
from advkit.files.checkpoint import read_checkpoint
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import to_json


def test_a_final_training_goes_on_where_it_was_interrupted(context: EvaluationContext, tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    names = [str(tmp_path / f"{k}.safetensors") for k in range(2)]
    evaluate(context, job(weights=names[0], recorded=False))
    state, steps = tmp_path / "s.safetensors", []
    interrupted = job(weights=names[1], recorded=False, state=str(state))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("advkit.training.measurement.accuracy", None)

        def step(*args: object) -> None:
            steps.append(1)
            if len(steps) > 18:  # in the second epoch
                raise Killed
            original(*args)  # type: ignore[arg-type]

        from advkit.training import loop

        original = loop._step
        patch.setattr(loop, "_step", step)
        with pytest.raises(Killed):
            evaluate(context, interrupted)
    assert state.exists()
    evaluate(context, interrupted)
    assert not state.exists()
    assert Path(names[0]).read_bytes() == Path(names[1]).read_bytes()


def test_a_child_inherits_what_did_not_change(context: EvaluationContext, tmp_path: Path) -> None:
    parent = small()
    evaluate(context, job(weights=str(tmp_path / "p.safetensors")))
    altered = replace(parent.nodes[1], kernel=5)
    child = replace(parent, nodes=(parent.nodes[0], altered), head=replace(parent.head, hidden=64))
    carry = inherited_weights(parent, child)
    assert carry == (("stem.", "stem."), ("nodes.1.", "nodes.1."))
    args = {"genome": to_json(canonical(child))}
    start = job(model_args=args, start=str(tmp_path / "p.safetensors"), carry=carry)
    before = read_checkpoint(tmp_path / "p.safetensors").tensors
    made = candidate._network(context, start).net.state_dict()
    fresh = candidate._network(context, replace(start, start=None)).net.state_dict()
    kept = [name for name in made if name.startswith(("stem.", "nodes.1."))]
    assert kept
    for name, tensor in made.items():
        assert torch.equal(tensor, before[name] if name in kept else fresh[name]), name


def test_what_is_carried_follows_ids_through_another_numbering() -> None:
    import numpy as np

    rng = np.random.default_rng(4)
    for _ in range(30):
        parent = random_genome(rng)
        child = mutate(rng, parent)
        theirs, ours = canonical(parent), canonical(child)
        for a, b in inherited_weights(parent, child):
            if a.startswith("nodes."):
                one = next(node for node in theirs.nodes if node.id == int(a.split(".")[1]))
                two = next(node for node in ours.nodes if node.id == int(b.split(".")[1]))
                assert (one.op, one.channels, one.depth, one.norm) == (two.op, two.channels, two.depth, two.norm)


def test_a_final_training_is_what_train_does(
    context_spec: ContextSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe of R' means the recipe of R': the same weights as ``advkit train`` gives that architecture."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "cli")
    import scripted

    from advkit.commands.app import run
    from advkit.evolution import run_search

    monkeypatch.setattr(run_search, "evaluate", scripted.evaluate)
    monkeypatch.setattr(run_search, "open_executor", scripted.open_inline)
    monkeypatch.chdir(tmp_path)
    Path("g.json").write_text(json.dumps(to_json(canonical(small()))))
    common = ["--data", "digits", "--limit", "500", "--epochs", "1", "--seed", "5", "-q", "--report", "x.json"]
    train = ["train", "--arch", "advkit/genome:g.json", "--misalign-from", context_spec.reference, *common]
    evolve = ["evolve", context_spec.reference, *common, "--begin-with", "advkit/genome:g.json", "--finalists", "1"]
    evolve += ["--offspring", "1", "--budget", "1", "--rungs", "1", "--candidate-images", "384", "--steps", "2"]
    evolve += ["--candidate-epochs", "2", "--validation-images", "50", "--accuracy-floor", "0", "--eps", "0.3"]
    handler = signal.getsignal(signal.SIGTERM)
    for name, arguments in (("t", train), ("e", evolve)):
        assert run([*arguments, "-o", f"{name}.safetensors"]) == 0
    signal.signal(signal.SIGTERM, handler)
    ours, theirs = (read_checkpoint(tmp_path / f"{name}.safetensors") for name in "et")
    assert ours.meta["mean"] == theirs.meta["mean"]
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)
