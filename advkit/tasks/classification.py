"""One class for each image.

Every loss takes ``logits`` (N, K) and ``classes`` (N,) int64: the true class when untargeted, the wanted one when
targeted. Larger is better for the attacker in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.data import augment
from advkit.metrics.accuracy import AccuracyMetric, near_chance
from advkit.models.prediction import classes_of, ensemble_logits
from advkit.tasks import box_marks, class_targets
from advkit.tasks.box_marks import BoxMark
from advkit.tasks.dlr import dlr
from advkit.tasks.task import AttackLoss


def class_margin(logits: Tensor, classes: Tensor) -> Tensor:
    """(N,) logsumexp of the other logits minus the class's own: cross-entropy is softplus of it.

    The usual form takes the difference p - 1 for the class itself, which is exactly 0 in float32 from a margin of 17
    on, while the other classes keep their gradients: an image's direction is then wrong, not zero. This form loses
    nothing before its gradient as a whole underflows, at a margin of about 88.
    """
    own = logits.gather(1, classes[:, None]).squeeze(1)
    return logits.scatter(1, classes[:, None], float("-inf")).logsumexp(1) - own


def cross_entropy(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """Cross-entropy (Goodfellow et al. 2015), as softplus of :func:`class_margin`."""
    loss = F.softplus(class_margin(logits, classes))
    return -loss if targeted else loss


def margin(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """Best other logit minus the logit of ``classes`` (Carlini and Wagner 2017)."""
    own = logits.gather(1, classes[:, None]).squeeze(1)
    other = logits.scatter(1, classes[:, None], float("-inf")).amax(1)
    return own - other if targeted else other - own


def logit(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """The class's own logit, up or down (Zhao et al. 2021): the best simple loss for targeted transfer."""
    own = logits.gather(1, classes[:, None]).squeeze(1)
    return own if targeted else -own


class Classification:
    """A :class:`~advkit.tasks.task.Task`: outputs are logits (N, K), targets and predictions classes (N,) int64."""

    name = "classification"
    attack_losses: Mapping[str, AttackLoss] = {"ce": cross_entropy, "margin": margin, "logit": logit, "dlr": dlr}
    strongest_of: Mapping[str, Sequence[str]] = {}
    fallback = "margin"
    has_places = False
    least_classes = 2
    augmentations = augment.KINDS
    stops_early = True
    smooths_labels = True
    exclusive = True
    counts_in_training = True
    figures: tuple[str, ...] = ()
    explained = activation_words = "the true class's logit"

    def outputs(self, networks: Sequence[nn.Module], images: Tensor) -> Tensor:
        """(N, K) mean of the networks' logits, float32 at least."""
        return ensemble_logits(networks, images)

    def joined(self, outputs: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
        """(N, K)."""
        return outputs[0] if len(outputs) == 1 else torch.cat(list(outputs))

    def losses(
        self, network: nn.Module, images: Tensor, targets: Tensor, *, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """(N,) cross-entropies, and (N,) 1 where the largest logit is the class's own."""
        return self.losses_of(network(images), targets, label_smoothing=label_smoothing)

    def losses_of(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """(N,) cross-entropies, and (N,) 1 where the largest logit is the class's own."""
        logits = outputs.float()
        losses = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
        return losses, (logits.detach().argmax(1) == targets).to(losses.dtype)

    def divergence(self, outputs: Tensor, clean: Tensor) -> Tensor:
        """(N,) KL(clean || outputs) of the softmax, as TRADES has it."""
        log_p, log_q = clean.float().log_softmax(1), outputs.float().log_softmax(1)
        return (log_p.exp() * (log_p - log_q)).sum(1)

    def runner_up_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) -log(1 - p) of the likeliest wrong class (Wang et al. 2020), as softplus of minus its margin."""
        logits = outputs.float()
        wrong = logits.detach().scatter(1, targets[:, None], float("-inf")).argmax(1)
        return F.softplus(-class_margin(logits, wrong))

    def confidence(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) softmax of the classes themselves."""
        return outputs.float().softmax(1).gather(1, targets[:, None]).squeeze(1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """(N,) int64 classes; -1 where a logit is NaN or infinite."""
        return classes_of(outputs)

    def correct(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """(N,) bool."""
        return predictions == targets

    def is_success(self, predictions: Tensor, targets: Tensor, targeted: bool) -> Tensor:
        """(N,) bool: the target class, or another than the true one; NaN logits count as fooled, never as a target."""
        return predictions == targets if targeted else predictions != targets

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) :func:`class_margin`."""
        return class_margin(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) the classes' own logits."""
        return logit(outputs, targets, True)

    def activation(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) the classes' own logits."""
        return logit(outputs, targets, True)

    def class_probabilities(self, outputs: Tensor) -> Tensor:
        """(N, K) softmax."""
        return outputs.float().softmax(1)

    def titles(self, targets: Tensor, class_names: Sequence[str]) -> list[str]:
        """The names of the classes."""
        return box_marks.named(targets.tolist(), class_names)

    def captions(self, predictions: Tensor, targets: Tensor, class_names: Sequence[str]) -> list[str]:
        """The names of the classes predicted."""
        return box_marks.named(predictions.tolist(), class_names)

    def objects(self, targets: Tensor) -> list[list[BoxMark]]:
        """No boxes."""
        return [[] for _ in targets]

    def found(self, predictions: Tensor, targets: Tensor) -> list[list[BoxMark]]:
        """No boxes."""
        return [[] for _ in targets]

    def parse_target(self, text: str, class_names: tuple[str, ...]) -> str | int:
        """See :func:`advkit.tasks.class_targets.parse_target`."""
        return class_targets.parse_target(text, class_names)

    def aim(
        self,
        rule: str | int,
        targets: Tensor,
        indices: Tensor,
        outputs: Callable[[], Tensor],
        num_classes: int,
        seed: int,
    ) -> Tensor:
        """See :func:`advkit.tasks.class_targets.targets`."""
        return class_targets.targets(rule, targets, indices, outputs, num_classes, seed)

    def output_flags(self, first: Tensor, second: Tensor) -> list[str]:
        """``not-finite``, ``random-forward`` (two passes differ) and ``softmax-output`` (rows are probabilities)."""
        flags = [] if bool(torch.isfinite(first).all()) else ["not-finite"]
        if not torch.allclose(first, second, rtol=1e-4, atol=1e-4, equal_nan=True):
            flags.append("random-forward")
        sums = first.sum(1)
        inside = bool((first >= 0).all() and (first <= 1).all())
        if inside and torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            flags.append("softmax-output")
        return flags

    def near_chance(self, correct: int, images: int, num_classes: int) -> bool:
        """See :func:`advkit.metrics.accuracy.near_chance`."""
        return near_chance(correct, images, num_classes)

    def augmented(
        self, images: Tensor, targets: Tensor, indices: Tensor, kinds: frozenset[str], seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """See :func:`advkit.data.augment.augmented`; classes stay."""
        return augment.augmented(images, indices, kinds, seed, epoch), targets

    def strata(self, targets: Tensor) -> Tensor:
        """(N,) the classes themselves."""
        return targets

    def columns(self, images: Tensor, targets: Tensor, aims: Tensor, predictions: Tensor) -> dict[str, Tensor]:
        """``labels``, ``target`` and ``prediction``, (N,) each."""
        return {"labels": targets, "target": aims, "prediction": predictions}

    def metric(self, num_classes: int) -> AccuracyMetric:
        """Top-1, top-5, by class, and calibration."""
        return AccuracyMetric(num_classes)


CLASSIFICATION = Classification()
