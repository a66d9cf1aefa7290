"""``advkit train``: a classifier or a detector, plain or turned away from reference networks."""

from __future__ import annotations

from advkit.commands.config import command
from advkit.commands.train_config import TrainConfig, check
from advkit.commands.training_run import fit, in_process_group, refuse_foreign, untrained, write
from advkit.reports.clock import Clock


def run(config: TrainConfig) -> int:
    """Train a classifier or a detector and write a checkpoint.

    With --misalign-from, the network's input gradients are turned away from those of the reference.
    """
    clock = Clock()
    check(config)
    return in_process_group(config, lambda device, rank, world: _train(config, clock, device, rank, world))


def _train(config: TrainConfig, clock: Clock, device: str, rank: int, world: int) -> int:
    from advkit.commands.train_recipe import misalign_params, train_params
    from advkit.commands.train_setup import open_setup
    from advkit.data.images import ImageSet
    from advkit.models.fuse import fuse_conv_bn
    from advkit.reports import envelope
    from advkit.reports import train as reports
    from advkit.training import evaluation
    from advkit.training.measurement import accuracy_with_precise_bn
    from advkit.training.params import TrainParams
    from advkit.training.run import Run
    from advkit.training.state import resume_path

    def params(images: ImageSet | None) -> TrainParams:
        penalty = misalign_params(config) if config.misalign_from else None
        return train_params(config, images, config.seed, device, misalign=penalty)

    setup = open_setup(config, device, params, config.misalign_from)
    settings = setup.settings(config, world)
    state_path = resume_path(config.out)
    refuse_foreign(config, settings, state_path)
    images, references, network = setup.images, setup.references, setup.network
    frozen = [fuse_conv_bn(reference) for reference in references]
    job = Run(network, images, setup.train, setup.validation, frozen, setup.params, state_path, settings)  # type: ignore[arg-type]
    if setup.params.epochs:
        fit(job, config, rank)
    precise = accuracy_with_precise_bn(job) if references else None
    cosines = []
    if images is not None and references and len(setup.validation):
        cosines = evaluation.cosines(network, references, images, setup.validation)
    result = reports.collect(job, config.out, cosines)
    if rank > 0:
        return 0
    write(job, config, "train", result.model_dump(include={"epochs", "validation_accuracy", "misalignment"}))
    return envelope.finish(
        "train",
        result,
        config,
        table=lambda: reports.table(result),
        clock=clock,
        device=device,
        params=settings["params"],
        inputs=[
            *([envelope.data_input(images)] if images is not None else []),
            *[envelope.model_input(reference) for reference in references],
        ],
        flags=[
            *(envelope.data_flags(images) if images is not None else []),
            *setup.notes(),
            *(["fresh weights, never trained, packed as they are"] if untrained(config) else []),
            *reports.flags(job, precise),
        ],
        processes=world,
    )


train = command(TrainConfig, run)
