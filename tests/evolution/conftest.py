"""An evaluation context on digits, with a reference trained for the occasion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.data import reference as data_reference
from advkit.data.sampling import hold_out
from advkit.evolution.adversarial_sets import make_missing
from advkit.evolution.evaluation_context import ContextSpec, open_parts, sample
from advkit.evolution.gradient_cache import record
from advkit.files.checkpoint import Checkpoint, write_checkpoint
from advkit.files.signals import Stop
from advkit.models import build
from advkit.models import reference as model_reference
from advkit.training.loop import Run, train
from advkit.training.params import MisalignParams, TrainParams

RECIPE = TrainParams(epochs=2, batch_size=32, lr=0.05, clip=1.0, seed=5, misalign=MisalignParams())


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small network that knows digits."""
    data = data_reference.load("digits", role="train")
    network = build.create(
        "advkit/resnet8", num_classes=10, input_size=data.size, mean=(0.3,), std=(0.4,), labels=data.class_names
    )
    part, held = hold_out(data.targets, 0.1, 0)
    run = Run(network, data, part, held, [], TrainParams(epochs=3, batch_size=32), None, {})
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    spec = network.spec
    meta = {
        "task": "classification",
        "architecture": spec.architecture,
        "model_args": {},
        "num_classes": 10,
        "labels": list(spec.labels),
        "input_size": list(spec.input_size),
        "mean": [0.3],
        "std": [0.4],
    }
    path = tmp_path_factory.mktemp("reference") / "r.safetensors"
    write_checkpoint(path, Checkpoint({k: t.contiguous() for k, t in network.net.state_dict().items()}, meta))
    return path


@pytest.fixture(scope="session")
def context_spec(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> ContextSpec:
    """How to open it: 400 training images, 100 validation images, two attacks."""
    folder = tmp_path_factory.mktemp("context")
    spec = ContextSpec(
        reference=str(reference),
        data="digits",
        limit=None,
        size=(1, 8, 8),
        download=False,
        validation=0.2,
        data_seed=0,
        validation_images=100,
        adversarial=(),
        gradients=None,
        images=400,
        epochs=2,
        recipe=RECIPE.to_json(),
        mean=(0.3,),
        std=(0.4,),
        device="cpu",
    )
    data, training, validation = open_parts(spec)
    network = model_reference.load(str(reference))
    attacks = [AttackParams(parse_method(name), eps=0.15, steps=5) for name in ("pgd", "mi,di")]
    paths = make_missing(folder, network, validation, [(a, a.to_json()) for a in attacks], "cpu")
    gradients = folder / "gradients.safetensors"
    record(gradients, network, data, sample(data, training, spec.images, 0), RECIPE, "cpu")
    return replace(spec, adversarial=paths, gradients=str(gradients))
