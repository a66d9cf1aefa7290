"""``advkit adv-pretrain``: adversarial training of a classifier or a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from advkit.commands.adv_pretrain_config import BETA, AdvPretrainConfig, check
from advkit.commands.config import command
from advkit.commands.training_run import fit, in_process_group, refuse_foreign, write
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.commands.train_setup import TrainSetup
    from advkit.training.params import AdversarialParams
    from advkit.training.robust_check import RobustCheck


def run(config: AdvPretrainConfig) -> int:
    """Train a classifier or a detector on adversarial images and write a checkpoint.

    After each epoch a PGD check on images held out counts what is robust, and looks for overfitting.
    """
    clock = Clock()
    check(config)
    return in_process_group(config, lambda device, rank, world: _train(config, clock, device, rank, world))


def _train(config: AdvPretrainConfig, clock: Clock, device: str, rank: int, world: int) -> int:
    from advkit.commands.train_recipe import train_params
    from advkit.commands.train_setup import open_setup
    from advkit.reports import adv_pretrain as reports
    from advkit.reports import envelope
    from advkit.training.run import Run
    from advkit.training.state import resume_path

    adversarial = adversarial_params(config)
    setup = open_setup(
        config, device, lambda images: train_params(config, images, config.seed, device, adversarial=adversarial)
    )
    looked_at = robust_check(config, setup, adversarial)
    settings: dict[str, Any] = setup.settings(config, world)
    settings["params"]["check"] = looked_at.to_json() if looked_at is not None else None
    state_path = resume_path(config.out)
    refuse_foreign(config, settings, state_path)
    images = setup.images
    assert images is not None
    job = Run(
        setup.network, images, setup.train, setup.validation, [], setup.params, state_path, settings, check=looked_at
    )
    fit(job, config, rank)
    result = reports.collect(job, config.out, config.fail_above, config.fail_below)
    if rank > 0:
        return 0
    write(job, config, "adv-pretrain", result.model_dump(include=set(reports.METRICS)))
    return envelope.finish(
        "adv-pretrain",
        result,
        config,
        table=lambda: reports.table(result),
        clock=clock,
        device=device,
        params=settings["params"],
        inputs=[envelope.data_input(images)],
        flags=[*envelope.data_flags(images), *setup.notes(), *reports.flags(job, result)],
        passed=result.gates,
        processes=world,
    )


def adversarial_params(config: AdvPretrainConfig) -> AdversarialParams:
    """The settings of the method that the options ask for.

    Raises:
        InputError: a radius or step that is no number or covers more than all images.
    """
    from advkit.attacks.budget import check_eps, parse_eps
    from advkit.training.params import AdversarialParams

    eps = parse_eps(config.eps)
    check_eps(eps, "linf", config.eps)
    step_size = {"fast": 1.25, "free": 1.0}.get(config.method, 0.25) * eps
    if config.step_size is not None:
        step_size = parse_eps(config.step_size, "step-size")
        check_eps(step_size, "linf", config.step_size, what="step-size")
    return AdversarialParams(
        method=config.method,
        eps=eps,
        steps=config.steps,
        step_size=step_size,
        ratio=config.adversarial_ratio,
        replays=config.replays,
        beta=config.beta if config.beta is not None else BETA.get(config.method, 0.0),
        awp=config.awp,
        objective=config.objective,
    )


def robust_check(config: AdvPretrainConfig, setup: TrainSetup, adversarial: AdversarialParams) -> RobustCheck | None:
    """The check that the options ask for, on a stratified sample of what is held out; None where nothing is.

    Raises:
        InputError: a radius that is no number or covers more than all images.
    """
    from advkit.attacks.budget import check_eps, parse_eps
    from advkit.tasks.sampling import sample
    from advkit.tasks.task import task_of
    from advkit.training.robust_check import RobustCheck

    text = config.check_eps if config.check_eps is not None else config.eps
    eps = parse_eps(text, "check-eps")
    check_eps(eps, "linf", text, what="check-eps")
    if setup.images is None or not len(setup.validation):
        return None
    positions = sample(task_of([setup.network]), setup.images, setup.validation, config.check_images, config.seed)
    control = adversarial.eps == 0.0  # trains as train does, to the end
    return RobustCheck(positions, eps, config.check_steps, config.seed, "ignore" if control else config.on_overfit)


adv_pretrain = command(AdvPretrainConfig, run)
