"""How much of the machine's own rate the attack engine reaches, and where the rest of a pass goes.

    python tests/benchmarks/machine_rate.py [--arch advkit/resnet20] [--size 32] [--batch 128] [--rounds 20]

The machine's rate is that of its best matrix product. A pass of the engine is the forward pass and the gradient by the
input, batch-norm folded, channels-last. Beside it the network's convolutions and linear layers by themselves, on
tensors of the same shapes: what is left of the pass are activations, sums and the bookkeeping of autograd.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.models.build import create
from advkit.models.fuse import fuse_conv_bn

SIDES = (512, 1024, 2048)  # of square matrices


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median over ``rounds``, after two that do not count."""
    times = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def matrix_rate(dtype: torch.dtype, rounds: int) -> float:
    """Floating-point operations per second of the best matrix product."""
    rates = []
    for side in SIDES:
        a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
        rates.append(2 * side**3 / seconds(lambda a=a, b=b: a @ b, rounds))  # type: ignore[misc]
    return max(rates)


class Layer:
    """A convolution or linear layer by itself, as a pass met it."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, x: Tensor, y: Tensor) -> None:
        self.layer, self.x = layer, torch.randn_like(x)
        self.y = torch.randn_like(y)
        self.operations = 2 * y.numel() * layer.weight[0].numel()

    def forward(self) -> Tensor:
        """Of the layer."""
        x = self.x
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, self.layer.weight, self.layer.bias)
        own = self.layer
        return F.conv2d(x, own.weight, own.bias, own.stride, own.padding, own.dilation, own.groups)  # type: ignore[arg-type]

    def backward(self) -> Any:
        """The gradient by its input alone."""
        if isinstance(self.layer, nn.Linear):
            return self.y @ self.layer.weight
        own = self.layer
        return torch.ops.aten.convolution_backward(
            self.y, self.x, own.weight, None, own.stride, own.padding, own.dilation, False, [0, 0], own.groups,
            [True, False, False],
        )  # fmt: skip


def layers(net: nn.Module, images: Tensor) -> list[Layer]:
    """All of them, on tensors as ``images`` meet them."""
    found: list[Layer] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        found.append(Layer(layer, inputs[0], output))

    hooks = [one.register_forward_hook(note) for one in net.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    net(images)
    for hook in hooks:
        hook.remove()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", default="advkit/resnet20")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = create(options.arch, num_classes=10, input_size=(3, options.size, options.size), seed=0)
    network.eval().requires_grad_(False)
    folded = fuse_conv_bn(network)
    images = torch.rand(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(options.batch) % 10

    print(f"{options.arch}, {options.batch} images of {options.size}x{options.size}, {options.threads} threads")
    for dtype in (torch.float32, torch.bfloat16):
        rate = matrix_rate(dtype, options.rounds)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16), torch.no_grad():
            parts = layers(folded, images)
        for part in parts:
            part.layer = part.layer.to(dtype)
            part.x, part.y = part.x.to(dtype), part.y.to(dtype)
        alone = [sum(seconds(run, options.rounds) for run in (one.forward for one in parts))]
        alone.append(sum(seconds(run, options.rounds) for run in (one.backward for one in parts)))
        folded.float()

        def forward(dtype: torch.dtype = dtype) -> Tensor:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                return folded(images)  # type: ignore[no-any-return]

        def both(dtype: torch.dtype = dtype) -> Tensor:
            x = images.detach().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = F.cross_entropy(folded(x), labels, reduction="sum")
            return torch.autograd.grad(loss, x)[0]

        times = [seconds(forward, options.rounds), seconds(both, options.rounds)]
        operations = sum(one.operations for one in parts)
        print(f"{str(dtype).removeprefix('torch.'):9} matrix product {rate / 1e9:7.0f} GFLOP/s")
        whats = ("forward", "forward and gradient by the input")
        for what, took, counted, layer_time in zip(
            whats, times, (operations, 2 * operations), (alone[0], sum(alone)), strict=True
        ):
            print(
                f"  {what:34} {1000 * took:7.1f} ms  {counted / took / 1e9:6.0f} GFLOP/s, {counted / took / rate:4.0%}"
                f" of it; layers alone {counted / layer_time / 1e9:6.0f} GFLOP/s, {layer_time / took:4.0%} of the time"
            )


if __name__ == "__main__":
    main()
