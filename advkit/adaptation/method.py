"""What a method of adaptation is: what it adds to a step's loss, and what it counts. One file each, one line in
:mod:`advkit.adaptation.registry`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from advkit.adaptation.params import AdaptationParams
from advkit.adaptation.target_stream import TargetBatch
from advkit.data.images import ImageSet
from advkit.models.network import Network
from advkit.training.params import TrainParams


@dataclass(frozen=True)
class MethodContext:
    """What a method is made from.

    Attributes:
        network: the one in training.
        target: the target images, without labels.
        settings: of the method.
        params: of the training.
    """

    network: Network
    target: ImageSet
    settings: AdaptationParams
    params: TrainParams


@dataclass(frozen=True)
class AdaptationLoss:
    """What a method adds to a step.

    Attributes:
        loss: scalar, differentiable; the step minimises the source's mean loss plus this.
        counts: by the method's :attr:`AdaptationMethod.measures`, tensors whose elements are summed over the epoch.
    """

    loss: Tensor
    counts: Mapping[str, Tensor]


class AdaptationMethod:
    """A method; by itself it adds nothing, and the training is that on the source alone.

    Attributes:
        measures: names of :attr:`AdaptationLoss.counts`.
        trained: weights of its own, such as a domain classifier's.
    """

    measures: tuple[str, ...] = ()
    trained: nn.Module | None = None

    def __init__(self, context: MethodContext) -> None:
        self.context = context

    def after_step(self) -> None:
        """Called when the weights have moved."""

    def prepare_inference(self) -> None:
        """Give the network what inference on the target is to have."""

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """What an epoch's sums say."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What is carried from step to step besides :attr:`trained`."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave.

        Raises:
            ValueError: tensors that do not fit.
        """


class SourceOnly(AdaptationMethod):
    """``none``: the control, which never looks at the target."""


@dataclass(frozen=True)
class ClassifierView:
    """What a classifier makes of the images of one domain in a step.

    Attributes:
        features: (N, D) float32, what its last layer takes; None where no method asked for them.
        logits: (N, K) float32.
    """

    features: Tensor | None
    logits: Tensor

    def require_features(self) -> Tensor:
        """The features.

        Raises:
            ValueError: they were not asked for.
        """
        if self.features is None:
            raise ValueError("features were not asked for")
        return self.features


class ClassifierMethod(AdaptationMethod):
    """One that looks at features or logits of both domains, which went through the network in one pass.

    Attributes:
        needs_features: whether it looks at features.
    """

    needs_features: bool = False

    @abstractmethod
    def adaptation_loss(
        self, source: ClassifierView, target: ClassifierView, batch: TargetBatch, progress: float
    ) -> AdaptationLoss:
        """What it adds.

        Args:
            source, target: what the network makes of both.
            batch: the target images.
            progress: of the training, in [0, 1).
        """


class MapMethod(AdaptationMethod):
    """One that looks at a detector's maps of both domains; each is a list of groups of images of one size, and of each
    group the maps, finest first (see :mod:`advkit.adaptation.detector_maps`)."""

    @abstractmethod
    def adaptation_loss(self, source: list[list[Tensor]], target: list[list[Tensor]]) -> AdaptationLoss:
        """What it adds."""


class TeacherMethod(AdaptationMethod):
    """One that makes passes of its own over the target images."""

    @abstractmethod
    def adaptation_loss(self, batch: TargetBatch) -> AdaptationLoss:
        """What it adds."""
