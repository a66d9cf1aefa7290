"""Mean teacher for detectors (Tarvainen and Valpola 2017; Liu et al. 2021; Li et al. 2022)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from advkit.adaptation.method import AdaptationLoss, MethodContext, TeacherMethod
from advkit.adaptation.strong_views import strong_view
from advkit.adaptation.target_stream import TargetBatch
from advkit.data import counter_rng
from advkit.data.boxes import COLUMNS, LABEL, NO_OBJECT
from advkit.models.detectors.output import CLASS, SCORE
from advkit.tasks.prediction import predict
from advkit.tasks.task import task_of
from advkit.training.moving_average import move_average, warmed_up


def pseudo_boxes(predictions: Tensor, threshold: float) -> Tensor:
    """(N, B, 6) targets of predictions (N, D, 6): those of a score of ``threshold`` and more; B is D."""
    kept = (predictions[..., SCORE] >= threshold) & (predictions[..., CLASS] >= 0)
    targets = predictions.new_zeros(*predictions.shape[:2], COLUMNS)
    targets[..., :4] = torch.where(kept[..., None], predictions[..., :4], 0.0)
    targets[..., LABEL] = torch.where(kept, predictions[..., CLASS], NO_OBJECT)
    return targets


class MeanTeacher(TeacherMethod):
    """An average of the weights so far finds boxes on target images; the network learns to find them on changed ones.

    Only the loss of classes is taken, as scores say nothing of how well a box lies (Liu et al. 2021), and images in
    which the teacher is sure of nothing teach nothing. The teacher starts as the network does, which should be trained
    on the source by then; it is the teacher that is measured and kept.
    """

    measures = ("pseudo_boxes", "pseudo_images", "target_images")

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self._task = task_of([context.network])
        self.teacher = copy.deepcopy(context.network).eval().requires_grad_(False)
        self._step = 0

    def adaptation_loss(self, batch: TargetBatch) -> AdaptationLoss:
        """The loss of the classes of the teacher's boxes, times the weight."""
        own, params = self.context, self.context.params
        self._step = batch.step
        with torch.autocast(batch.images.device.type, enabled=False):  # scores meet a threshold: float32
            found = pseudo_boxes(predict([self.teacher], batch.images), own.settings.threshold)
        there = found[..., LABEL] >= 0
        sure = there.any(1)
        counts = {
            "pseudo_boxes": there.float().sum(1),
            "pseudo_images": sure.float(),
            "target_images": torch.ones_like(sure, dtype=torch.float32),
        }
        if not bool(sure.any()):
            return AdaptationLoss(torch.zeros((), device=batch.images.device), counts)
        seed = counter_rng.stream("target augmentation", params.seed)
        images, keys = batch.images[sure], batch.keys[sure]
        images, targets = self._task.augmented(images, found[sure], keys, params.augment, seed, 0)
        images = strong_view(images, keys, seed).contiguous(memory_format=torch.channels_last)
        losses = self._task.attack_losses["cls"](self._task.outputs([own.network], images), targets, False)
        return AdaptationLoss(own.settings.weight * losses.sum() / len(sure), counts)

    def after_step(self) -> None:
        """teacher = D teacher + (1 - D) student, of weights and buffers; whole numbers are the student's."""
        decay = warmed_up(self.context.settings.teacher_ema, self._step)
        move_average(self.teacher.net.state_dict(), self.context.network.net.state_dict(), decay)

    def prepare_inference(self) -> None:
        """The teacher's weights."""
        self.context.network.net.load_state_dict(self.teacher.net.state_dict())

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """How many boxes, in how many of the images, there were."""
        return {name: int(sums[name]) for name in self.measures}

    def state(self) -> dict[str, Tensor]:
        """The teacher."""
        return dict(self.teacher.net.state_dict())

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Its weights.

        Raises:
            ValueError: others.
        """
        try:
            self.teacher.net.load_state_dict(dict(tensors))
        except (RuntimeError, KeyError) as error:
            raise ValueError("no teacher of this network") from error
