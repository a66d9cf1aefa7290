"""The objective of an adaptation: the source's task loss, adversarial or not, and what a method adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from advkit.adaptation.classifier_features import FeatureRecorder
from advkit.adaptation.detector_maps import MapRecorder
from advkit.adaptation.method import (
    AdaptationLoss,
    AdaptationMethod,
    ClassifierMethod,
    ClassifierView,
    MapMethod,
    MethodContext,
    TeacherMethod,
)
from advkit.adaptation.registry import method_of
from advkit.adaptation.target_stream import TargetStream
from advkit.files.errors import InputError
from advkit.tasks.task import Probabilistic, task_of
from advkit.training.adversarial import AdversarialObjective, AdversarialPoints
from advkit.training.objective import Terms, TrainingObjective, TrainingStep, objective_of

ADDED = "alignment"  # the measure of what a method adds to the loss


class Adaptation(TrainingObjective):
    """The source's objective, plain or adversarial, and a method that adds nothing in a step."""

    def __init__(self, context: MethodContext, method: AdaptationMethod) -> None:
        self._context, self.method, self._params = context, method, context.params
        self.network, self.task = context.network, task_of([context.network])
        self.source = objective_of(context.network, [], context.params, None)
        self.measures, self.replays = (*self.source.measures, *method.measures), self.source.replays
        self.trained = method.trained

    def __call__(self, step: TrainingStep) -> Terms:
        """The source's terms."""
        return self.source(step)

    def after_backward(self) -> None:
        """As of the source's objective."""
        self.source.after_backward()

    def after_step(self) -> None:
        """As of the method."""
        self.method.after_step()

    def prepare_inference(self) -> None:
        """As of the method."""
        self.method.prepare_inference()

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """What the source's objective and the method have to say."""
        added = {ADDED: sums[ADDED] / sums["images"]} if ADDED in self.measures else {}
        return self.source.record(sums) | added | self.method.record(sums)

    def state(self) -> dict[str, Tensor]:
        """Of the source's objective, the method and its weights."""
        found = {f"source.{name}": tensor for name, tensor in self.source.state().items()}
        found |= {f"method.{name}": tensor for name, tensor in self.method.state().items()}
        if self.trained is not None:
            found |= {f"trained.{name}": tensor.detach() for name, tensor in self.trained.state_dict().items()}
        return found

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave.

        Raises:
            ValueError: tensors that do not fit.
        """
        own = {
            part: {name[len(part) + 1 :]: t for name, t in tensors.items() if name.startswith(f"{part}.")}
            for part in ("source", "method", "trained")
        }
        self.source.load_state(own["source"])
        self.method.load_state(own["method"])
        shapes = {name: tensor.shape for name, tensor in self.trained.state_dict().items()} if self.trained else {}
        if {name: tensor.shape for name, tensor in own["trained"].items()} != shapes:
            raise ValueError("weights of another method")
        if self.trained is not None:
            self.trained.load_state_dict(own["trained"])

    def _stream(self) -> TargetStream:
        return TargetStream(self._context.target, self.task, self._params)

    def _progress(self, step: TrainingStep) -> float:
        return step.number / max(1, self._params.epochs * step.steps)

    def _autocast(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self._params.precision == "bfloat16")


class ClassifierAdaptation(Adaptation):
    """Source and target images go through the classifier in one pass, so that batch-norm sees both at once."""

    def __init__(self, context: MethodContext, method: ClassifierMethod) -> None:
        super().__init__(context, method)
        self.measures = (*self.measures, ADDED)
        self._method, self._target = method, self._stream()
        self._recorder = FeatureRecorder(context.network) if method.needs_features else None

    def __call__(self, step: TrainingStep) -> Terms:
        """The source's losses on its part of the pass, and what the method adds."""
        source = self.source
        points = AdversarialPoints(step.images, torch.zeros_like(step.indices, dtype=torch.bool))
        if isinstance(source, AdversarialObjective):
            points = source.points(step)
        batch, count = self._target.batch(step), len(step.images)
        both = torch.cat([points.images, batch.augmented]).contiguous(memory_format=torch.channels_last)
        with self._autocast(both):
            outputs = self.network(both)
        assert isinstance(self.task, Probabilistic)
        losses, correct = self.task.losses_of(
            outputs[:count], step.targets, label_smoothing=self._params.label_smoothing
        )
        features = self._recorder.pop().float() if self._recorder is not None else None
        views = [
            ClassifierView(None if features is None else features[part], outputs[part].float())
            for part in (slice(None, count), slice(count, None))
        ]
        added = self._method.adaptation_loss(views[0], views[1], batch, self._progress(step))
        measures = {"loss": losses.detach(), "correct": correct}
        if isinstance(source, AdversarialObjective):
            measures = source.counts(points, losses, correct, correct)
        return _combined_terms(losses, measures, added)


class DetectorAdaptation(Adaptation):
    """The detector's losses see the source; the method looks at the target besides, and maybe at the source's maps."""

    def __init__(self, context: MethodContext, method: MapMethod | TeacherMethod) -> None:
        super().__init__(context, method)
        norms = any(isinstance(module, _BatchNorm) for module in context.network.modules())
        if norms and not context.params.freeze_bn:
            raise InputError(
                f"{context.network.spec.ref}: its batch-norms would take the statistics of one domain at a time; give "
                "--freeze-bn"
            )
        self.measures = (*self.measures, ADDED)
        self._method, self._target = method, self._stream()
        self._recorder = MapRecorder(context.network) if isinstance(method, MapMethod) else None

    def __call__(self, step: TrainingStep) -> Terms:
        """The source's terms, and what the method adds."""
        terms, batch = self.source(step), self._target.batch(step)
        (losses,) = terms.losses.values()
        if isinstance(self._method, TeacherMethod):
            with self._autocast(step.images):
                added = self._method.adaptation_loss(batch)
        else:
            assert self._recorder is not None
            source = self._recorder.pop()
            with self._autocast(step.images):
                target = self._recorder.extract(batch.augmented)
            # Outside of autocast, for want of sound kernels: see GlobalClassifier.
            added = self._method.adaptation_loss(source, target)
        return _combined_terms(losses, terms.measures, added)


def _combined_terms(losses: Tensor, measures: Mapping[str, Tensor], added: AdaptationLoss) -> Terms:
    """The source's ``losses`` and ``measures`` (N,), and what is added."""
    whole = added.loss.float().expand(len(losses))
    return Terms({"loss": losses, ADDED: whole}, {**measures, ADDED: whole.detach(), **added.counts})


def adaptation_of(context: MethodContext) -> Adaptation:
    """The objective that the settings ask for.

    Raises:
        InputError: a method for another task; a network that it can't work on.
    """
    method = method_of(task_of([context.network]), context)
    if isinstance(method, ClassifierMethod):
        return ClassifierAdaptation(context, method)
    if isinstance(method, MapMethod | TeacherMethod):
        return DetectorAdaptation(context, method)
    return Adaptation(context, method)
