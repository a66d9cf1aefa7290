"""Two processes do what one does: batch-norm over the global batch, mean gradients, summed counts, one decision."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.data import reference as data_reference
from advkit.data.sampling import hold_out
from advkit.files.errors import InputError
from advkit.files.signals import Stop
from advkit.files.tensors import read_tensors, write_tensors
from advkit.models.build import create
from advkit.models.fuse import fuse_conv_bn
from advkit.parallel import process_group
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited
from advkit.training import distributed, loop
from advkit.training.evaluation import accuracy, cosines
from advkit.training.loop import _stopped, train
from advkit.training.objective import TrainingObjective, objective_of
from advkit.training.order import dropout_seed
from advkit.training.params import AdversarialParams, MisalignParams, TrainParams
from advkit.training.robust_check import RobustCheck
from advkit.training.run import Run

WORLD = 2
SIZE = (1, 8, 8)


def whole_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 4, 4, generator=generator) * 2 + 1, torch.arange(8) % 5


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))


def step(net: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients and running statistics after one training-mode pass."""
    torch.autograd.backward(F.cross_entropy(net.train()(images), labels))
    distributed.average_gradients(net.parameters())
    found = {f"gradient {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    return found | {f"buffer {name}": b.double() for name, b in net.named_buffers()}


def a_run() -> Run:
    """Five steps with everything on: augmentation, penalty at two places, averaged weights, bound on the gradient."""
    data = limited(CLASSIFICATION, data_reference.load("digits", role="train"), 100, 0)
    part, held = hold_out(data.targets, 0.2, 0)
    misalign = MisalignParams(at=("clean", "noise"), smoothness=0.1, warm_up=0.0)
    params = TrainParams(
        epochs=1,
        batch_size=16,
        lr=0.1,
        schedule="constant",
        ema=0.5,
        clip=1.0,
        augment=frozenset({"crop"}),
        misalign=misalign,
    )
    network, reference = (create("advkit/cnn", num_classes=10, input_size=SIZE, seed=seed) for seed in (1, 7))
    return Run(network, data, part, held, [fuse_conv_bn(reference.eval())], params, None, {})


def measured() -> dict[str, Tensor]:
    """All that one process and two must agree on."""
    run = a_run()
    history = train(run, resume=False, stop=Stop(), show=lambda progress: None)
    correct, total = accuracy(run.network, run.data, run.validation)
    cosine = cosines(run.network, run.references, run.data, run.validation)[0]
    numbers = [history[0][key] for key in ("images", "right", "cross_entropy", "cosine", "absolute_cosine", "penalty")]
    return {name: tensor.float() for name, tensor in run.network.net.state_dict().items()} | {
        "epoch": torch.tensor(numbers),
        "held out": torch.tensor([correct, total, cosine["cosine"], cosine["absolute_cosine"], cosine["images"]]),
    }


def hardened() -> dict[str, Tensor]:
    """Weights after three steps of free training with weight perturbation, what it carries, and what the check counts.

    Signs of gradients near 0 hang on rounding: an eps this small keeps what follows from them small.
    """
    run = a_run()
    adversarial = AdversarialParams("free", eps=1e-3, step_size=5e-4, replays=2, awp=0.01)
    run.params = replace(run.params, misalign=None, ema=0.0, adversarial=adversarial)
    run.references, run.train, run.check = [], run.train[:48], RobustCheck(run.validation, 0.02, 3, 0)
    kept: list[TrainingObjective] = []

    def objective(*arguments: Any) -> TrainingObjective:
        kept.append(objective_of(*arguments))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "objective_of", objective)
        history = train(run, resume=False, stop=Stop(), show=lambda progress: None)
    counts = [history[0][name] for name in ("check_images", "adversarial_images", "check_right", "robust_right")]
    return {f"hard {name}": tensor.float() for name, tensor in run.network.net.state_dict().items()} | {
        "carried": kept[0].state()["perturbation"],
        "counts": torch.tensor(counts),
    }


def halved() -> dict[str, Tensor]:
    """Weights after the same run in bfloat16."""
    run = a_run()
    run.params = replace(run.params, precision="bfloat16")
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    return {f"half {name}": tensor.float() for name, tensor in run.network.net.state_dict().items()}


def dropped() -> Tensor:
    """Which units dropout keeps for this rank's images in the first step of a run, (N, units) of 0 and 1."""
    run, masks = replace(a_run(), references=[]), []
    run.params = replace(run.params, misalign=None)
    last = run.network.net.classifier
    run.network.net.classifier = nn.Sequential(nn.Dropout(0.5), last)  # type: ignore[arg-type]

    def before(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (torch.ones_like(inputs[0]) if not masks else inputs[0],)

    dropout = run.network.net.classifier[0]  # type: ignore[index]
    dropout.register_forward_pre_hook(before)
    dropout.register_forward_hook(lambda module, inputs, output: masks.append(output.detach().clone()))
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    return (masks[0] > 0).float()


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    try:
        images, labels = whole_batch()
        net = small_net()
        distributed.synchronise_batch_norm(net)
        share = slice(rank, None, WORLD)
        found = step(net, images[share], labels[share])
        stop = Stop()
        stop.signum = 2 if rank == 1 else None
        found["stopped"] = torch.tensor([float(_stopped(stop)), float(_stopped(Stop()))])
        found["sum"] = process_group.sum_over_ranks(torch.tensor([rank + 1, 10]))
        with pytest.raises(InputError, match="BatchNorm1d"):
            distributed.synchronise_batch_norm(nn.Sequential(nn.BatchNorm1d(3)))
        odd = a_run()
        odd.params = replace(odd.params, batch_size=17)
        with pytest.raises(InputError, match="17 is not shared evenly by 2 processes"):
            train(odd, resume=False, stop=Stop(), show=lambda progress: None)
        found |= halved() | hardened() | measured() | {"kept by dropout": dropped()}
        write_tensors(Path(folder) / f"{rank}.safetensors", {k: v.contiguous() for k, v in found.items()}, "{}")
    finally:
        process_group.leave()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (str(folder),), nprocs=WORLD)
    return [read_tensors(folder / f"{rank}.safetensors")[0] for rank in range(WORLD)]


def test_batch_norm_and_gradients_are_those_of_the_whole_batch(ranks: list[dict[str, Tensor]]) -> None:
    expected = step(small_net(), *whole_batch())
    for found in ranks:
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


def test_one_rank_that_is_told_to_stop_stops_all(ranks: list[dict[str, Tensor]]) -> None:
    for found in ranks:
        assert found["stopped"].tolist() == [1.0, 0.0]
        assert found["sum"].tolist() == [3, 20]


def test_a_whole_run_agrees_with_that_of_one_process(ranks: list[dict[str, Tensor]]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = measured()
    torch.set_num_threads(before)
    start = a_run().network.net.state_dict()
    for found in ranks:
        for name, tensor in alone.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
            assert torch.equal(found[name], ranks[0][name]), "ranks must not drift apart"
    weight = next(name for name in start if name.endswith("weight"))
    assert float((alone[weight] - start[weight]).abs().max()) > 0.01, "weights moved by more than they may differ"


def test_adversarial_training_agrees_with_that_of_one_process(ranks: list[dict[str, Tensor]]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = hardened()
    torch.set_num_threads(before)
    for found in ranks:
        for name, tensor in alone.items():
            assert torch.equal(found[name], ranks[0][name]), "ranks must not drift apart"
            if name.startswith("hard "):
                torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3)
        assert found["carried"].shape == (16, *SIZE)
        agree = (found["carried"] - alone["carried"]).abs() < 1e-6
        assert float(agree.float().mean()) > 0.95
        assert found["counts"][:2].tolist() == [20, 48]
        assert (found["counts"] - alone["counts"]).abs().max() <= 1
    assert float(alone["carried"].abs().max()) == pytest.approx(1e-3)


def test_ranks_stay_together_in_bfloat16_too(ranks: list[dict[str, Tensor]]) -> None:
    weights = [name for name in ranks[0] if name.startswith("half ")]
    start = a_run().network.net.state_dict()
    for name in weights:
        assert torch.equal(ranks[0][name], ranks[1][name])
        assert bool(ranks[0][name].isfinite().all())
    moved = [float((ranks[0][name] - start[name.removeprefix("half ")].float()).abs().max()) for name in weights]
    assert max(moved) > 0.01


def test_every_rank_drops_units_of_its_own(ranks: list[dict[str, Tensor]]) -> None:
    first, second = (found["kept by dropout"] for found in ranks)
    assert first.shape == second.shape
    assert 0.4 < float((first == second).float().mean()) < 0.6
    torch.manual_seed(dropout_seed(0, 0, 0))
    assert torch.equal(first, (F.dropout(torch.ones_like(first), 0.5) > 0).float())


def test_one_process_draws_dropout_as_ever() -> None:
    assert [dropout_seed(seed, number, 0) for seed, number in ((0, 5), (3, 7))] == [5, 3 * 7_368_787 + 7]
    seeds = [dropout_seed(seed, number, rank) for seed in range(3) for number in range(300) for rank in range(4)]
    assert len(set(seeds)) == len(seeds)
