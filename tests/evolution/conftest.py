"""An evaluation context on digits, with a linear reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from linear import write_linear

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.evolution.adversarial_sets import make_missing
from advkit.evolution.evaluation_context import ContextSpec, EvaluationContext, open_context, open_parts
from advkit.evolution.gradient_cache import record
from advkit.models import reference as model_reference
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import sample
from advkit.training.params import MisalignParams, TrainParams

RECIPE = TrainParams(epochs=2, batch_size=32, lr=0.05, clip=1.0, seed=5, misalign=MisalignParams())


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A linear R that knows digits."""
    return write_linear(tmp_path_factory.mktemp("reference") / "r.safetensors")


@pytest.fixture(scope="session")
def context_spec(reference: str, tmp_path_factory: pytest.TempPathFactory) -> ContextSpec:
    """How to open it: 400 training images, 100 validation images, two attacks."""
    folder = tmp_path_factory.mktemp("context")
    spec = ContextSpec(
        reference=reference,
        task="classification",
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
    network = model_reference.load(reference)
    attacks = [AttackParams(parse_method(name), eps=0.15, steps=5) for name in ("pgd", "mi,di")]
    paths = make_missing(folder, network, validation, [(a, a.to_json()) for a in attacks], "cpu")
    gradients = folder / "gradients.safetensors"
    record(gradients, network, data, sample(CLASSIFICATION, data, training, spec.images, 0), RECIPE, "cpu")
    return replace(spec, adversarial=paths, gradients=str(gradients))


@pytest.fixture(scope="module")
def context(context_spec: ContextSpec) -> EvaluationContext:
    return open_context(context_spec)
