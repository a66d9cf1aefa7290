"""What tests of adversarial objectives share."""

from __future__ import annotations

from advkit.models.network import Network
from advkit.training.adversarial import AdversarialObjective
from advkit.training.objective import objective_of
from advkit.training.params import TrainParams


def objective(network: Network, params: TrainParams) -> AdversarialObjective:
    found = objective_of(network, [], params, None)
    assert isinstance(found, AdversarialObjective)
    return found
