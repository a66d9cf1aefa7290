"""From the options of ``adapt`` to two domains, a network to start from and the settings of the run.

Imported late: it needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from advkit.adaptation.params import AdaptationParams
from advkit.attacks.budget import check_eps, parse_eps
from advkit.commands.adapt_config import THRESHOLDS, WEIGHTS, AdaptConfig
from advkit.commands.checks import statistics
from advkit.commands.loading import check_task, found_by_name, is_fresh
from advkit.commands.train_recipe import train_params
from advkit.commands.train_setup import TrainSetup
from advkit.commands.train_start import load_start, try_out
from advkit.data import reference as data_reference
from advkit.data.class_order import in_order
from advkit.data.images import ImageSet
from advkit.data.overlap import positions_of
from advkit.data.scaled_images import at_size
from advkit.data.statistics import mean_and_std
from advkit.files.errors import InputError
from advkit.models.config import is_nameless
from advkit.models.detectors.resize import normalises_by_size
from advkit.models.native_size import NativeSize, native_size
from advkit.models.network import Network
from advkit.tasks.sampling import hold_out, limited
from advkit.tasks.task import task_named
from advkit.training.params import AdversarialParams


@dataclass(frozen=True)
class AdaptSetup:
    """Everything opened, each once.

    Attributes:
        start: the network to adapt, the source and the settings of the training.
        target: the images to adapt to, whose targets say nothing.
        labelled: the same in the same order, with labels; None unless the user gives labels away.
        compared: the images to compare on, with labels; None for no comparison.
        adaptation: the settings of the adaptation.
    """

    start: TrainSetup
    target: ImageSet
    labelled: ImageSet | None
    compared: ImageSet | None
    adaptation: AdaptationParams

    @property
    def source(self) -> ImageSet:
        """The images trained on."""
        assert self.start.images is not None
        return self.start.images

    def settings(self, config: AdaptConfig, processes: int) -> dict[str, Any]:
        """All that decides the bytes of the checkpoint, as JSON values."""
        found = self.start.settings(config, processes)
        told = self.adaptation.to_json()
        told["target_labels"] = config.select == "oracle"  # elsewhere they change nothing that is written
        found["params"]["adaptation"] = told
        return found | {"target": self.target.fingerprint}


def open_adaptation(config: AdaptConfig, device: str) -> AdaptSetup:
    """Source, network and target, checked against each other.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    native = native_size(config.model)
    source = _open(config, config.source, native, role="train")
    task = task_named(source.task)
    if source.num_classes < task.least_classes:
        raise InputError(f"{source.ref}: one class, {source.class_names[0]}, and no other; at least two are needed")
    if not task.smooths_labels:
        config.refuse(("label_smoothing",), f"does nothing in {source.task}; leave it out")
    source = limited(task, source, config.limit, config.seed)
    train, validation = hold_out(task, source, config.validation, config.seed)
    network = _open_network(config, source, train, device)
    check_task(config.model, network, source)
    source = with_classes_of(config.model, network, source)
    if config.epochs and not config.freeze_bn and normalises_by_size(network.net):
        raise InputError(
            f"{config.model}: scales images by their shorter side, which batch-norm can't; give --freeze-bn"
        )
    if config.epochs:
        try_out(network, source, train)
    target = _open(config, config.target, native, like=source, labelled=False, whole=task.has_places)
    target = limited(task, _fitting(target, source, whole=task.has_places), config.limit, config.seed)
    labelled = compared = None
    if config.target_labels:
        labelled = _labelled(config, config.target, "train", native, network, source)
        labelled = labelled.subset(positions_of(target, labelled))
    if config.compare:
        compared = _labelled(config, config.compare, "test", native, network, source)
    params = train_params(config, source, config.seed, device, adversarial=adversarial_params(config))
    start = TrainSetup(source, train, validation, network, [], params)
    return AdaptSetup(start, target, labelled, compared, adaptation_params(config))


def _open_network(config: AdaptConfig, source: ImageSet, train: Any, device: str) -> Network:
    mean, std = statistics(config.mean, config.std)
    if is_fresh(config.model) and (mean is None or std is None):
        found = mean_and_std(source, train)
        mean, std = mean or found[0], std or found[1]
    return load_start(config.model, source, mean, std, device, config.seed)


def _open(
    config: AdaptConfig,
    ref: str,
    native: NativeSize | None,
    *,
    role: Literal["train", "test"] = "train",
    like: ImageSet | None = None,
    labelled: bool = True,
    whole: bool = False,
) -> ImageSet:
    """Images at the network's size where they are pictures, or that of ``like``, and with its channels."""
    size = (config.size, config.size) if config.size else None
    if size is None and like is not None:
        size = (like.size[1], like.size[2])
    elif size is None and native is not None and native.fixed and not native.scales:
        size = (native.height, native.width)
    return data_reference.load(
        ref,
        role=role,
        size=size,
        channels=like.size[0] if like is not None else native.channels if native is not None else None,
        download=config.download,
        fix_boxes=config.fix_boxes,
        labelled=labelled,
        whole=whole,
    )


def _labelled(
    config: AdaptConfig,
    ref: str,
    role: Literal["train", "test"],
    native: NativeSize | None,
    network: Network,
    source: ImageSet,
) -> ImageSet:
    """Images of the target with their labels.

    Raises:
        InputError: for another task, or of other classes than the source's.
    """
    found = _open(config, ref, native, role=role, like=source)
    check_task(config.model, network, found)
    return _fitting(with_classes_of(config.model, network, found), source, whole=task_named(found.task).has_places)


def _fitting(images: ImageSet, source: ImageSet, *, whole: bool) -> ImageSet:
    """``images`` at the size of the source's, unless detectors take them ``whole``."""
    return images if whole else at_size(images, source.size[1], source.size[2])


def with_classes_of(ref: str, network: Network, data: ImageSet) -> ImageSet:
    """``data`` with its classes in the order of those of ``network``, by name.

    Raises:
        InputError: names that are not the same; without names, more classes than the network's.
    """
    own, theirs = network.spec.labels, data.class_names
    if own == theirs:
        return data
    if not own or is_nameless(own) or is_nameless(theirs):
        missing = network.spec.num_classes - len(theirs)
        if missing == 0 or (missing > 0 and is_nameless(theirs)):  # of numbers the last ones may be missing by chance
            return data
    elif len(own) == len(theirs) and found_by_name(theirs, own):
        return in_order(data, own)
    told = [f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" for names in (own, theirs)]
    raise InputError(
        f"{data.ref}: has the classes {told[1]}, {ref} has {told[0]}; all must have the same (advkit train --init "
        "MODEL gives a model another head)"
    )


def adversarial_params(config: AdaptConfig) -> AdversarialParams | None:
    """The attack on the source; None without one.

    Raises:
        InputError: a radius that is no number or covers more than all images.
    """
    if not config.adversarial:
        return None
    eps = parse_eps(config.eps)
    check_eps(eps, "linf", config.eps)
    if eps == 0.0:
        return None
    return AdversarialParams(method="fast", eps=eps, step_size=1.25 * eps, steps=1, objective=config.objective)


def adaptation_params(config: AdaptConfig) -> AdaptationParams:
    """The settings of the adaptation that the options ask for."""
    threshold = config.threshold if config.threshold is not None else THRESHOLDS.get(config.method, 0.0)
    weight = config.weight if config.weight is not None else WEIGHTS.get(config.method, 1.0)
    return AdaptationParams(config.method, weight, threshold, config.teacher_ema, config.select, config.target_labels)
