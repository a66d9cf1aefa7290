"""Models that can be asked but not opened: programs that read images and write logits, and ONNX files.

They have no gradient, so that they can be judged, shown adversarial images, and attacked by square.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models import build
from advkit.models.config import ModelConfig, ModelOverrides, resolve
from advkit.models.network import Network

PROGRAM = "cmd:"  # before the command of a MODEL that is a program
ONNX = ".onnx"
PATIENCE = 600.0  # seconds that a program may take for a batch


class BlackBox(nn.Module):
    """From images (N, C, H, W) to logits (N, K), without gradients.

    Attributes:
        ref: named in messages.
        identity: (32,) uint8, SHA-256 of what is asked; the only state.
    """

    identity: Tensor

    def __init__(self, ref: str, file: Path | None) -> None:
        super().__init__()
        self.ref = ref
        what = file.read_bytes() if file is not None else ref.encode()
        self.register_buffer("identity", torch.tensor(list(hashlib.sha256(what).digest()), dtype=torch.uint8))
        self.nothing = nn.Parameter(torch.zeros(0), requires_grad=False)  # tells the device

    def __deepcopy__(self, memo: dict[int, Any]) -> BlackBox:
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) float32 logits, on the device of ``images``.

        Raises:
            InputError: no answer, or one that is none.
        """
        found = self.ask(images.detach().float().cpu().contiguous())
        if found.ndim != 2 or len(found) != len(images):
            raise InputError(f"{self.ref}: answers {list(found.shape)} to {len(images)} images, not [N, K] logits")
        return found.float().to(images.device)

    @abstractmethod
    def ask(self, images: Tensor) -> Tensor:
        """(N, K) logits of ``images`` (N, C, H, W) float32 on the CPU."""


class Program(BlackBox):
    """A program that is run for every batch: safetensors with ``images`` in, with ``logits`` or ``labels`` out.

    ``images`` are float32 in [0, 1], (N, C, H, W); ``logits`` (N, K) of any float type, ``labels`` (N,) of any integer
    type, which become logits of 0 and 1.
    """

    def __init__(self, ref: str, num_classes: int | None) -> None:
        self.words = shlex.split(ref.removeprefix(PROGRAM))
        if not self.words:
            raise InputError(f"{ref}: names no program; write {PROGRAM}./PROGRAM")
        found = shutil.which(self.words[0])
        if found is None:
            raise InputError(f"{ref}: there is no program {self.words[0]} that can be run; check its path and its mode")
        super().__init__(ref, Path(found))
        self.num_classes = num_classes

    def ask(self, images: Tensor) -> Tensor:
        """See :class:`BlackBox`."""
        try:
            done = subprocess.run(
                self.words, input=bytes_of({"images": images}), capture_output=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"{self.ref}: no answer to {len(images)} images in {PATIENCE:g} s; mend it") from error
        except OSError as error:
            raise InputError(f"{self.ref}: can't be run ({error.strerror}); check it") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            last = f": {said[-1][:200]}" if said else ""
            raise InputError(f"{self.ref}: ended with status {done.returncode}{last}; mend it")
        try:
            answer = tensors_of(done.stdout)
        except Exception as error:  # whatever safetensors says of rubbish
            raise InputError(f"{self.ref}: wrote {len(done.stdout)} bytes that are no safetensors; mend it") from error
        if "logits" in answer:
            return answer["logits"]
        labels = answer.get("labels")
        if labels is None or labels.ndim != 1 or labels.is_floating_point():
            raise InputError(f"{self.ref}: wrote neither logits (N, K) nor integer labels (N,); mend it")
        return self._as_logits(labels.long())

    def _as_logits(self, labels: Tensor) -> Tensor:
        count = self.num_classes or (int(labels.max()) + 1 if len(labels) else 1)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
            raise InputError(f"{self.ref}: wrote labels beyond the {count} classes of the data; mend it")
        return nn.functional.one_hot(labels, count).float()


class OnnxFile(BlackBox):
    """The first output of an ONNX file with one input, float32 (N, C, H, W)."""

    def __init__(self, ref: str) -> None:
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError as error:
            raise InputError(f"{ref}: needs onnxruntime; pip install 'advkit[onnx]'") from error
        if not Path(ref).is_file():
            raise InputError(f"{ref}: no such file; check the path")
        super().__init__(ref, Path(ref))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(ref, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{ref}: not an ONNX file that can be run ({str(error)[:120]}); check it") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise InputError(f"{ref}: takes {len(inputs)} inputs, not one of (N, C, H, W); export it so")
        self.input = inputs[0]

    def ask(self, images: Tensor) -> Tensor:
        """See :class:`BlackBox`; a file made for one number of images is asked in its portions."""
        fixed = self.input.shape[0]
        step = fixed if isinstance(fixed, int) else max(1, len(images))
        parts = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            filled = torch.cat([part, part[:1].expand(step - len(part), -1, -1, -1)]) if len(part) < step else part
            try:
                found = self.session.run(None, {self.input.name: filled.numpy()})[0]
            except Exception as error:
                raise InputError(f"{self.ref}: can't be asked ({str(error)[:160]}); check it") from error
            parts.append(torch.from_numpy(found)[: len(part)])
        return torch.cat(parts)


def is_black_box(ref: str) -> bool:
    """Whether ``ref`` names a model that can only be asked."""
    return ref.startswith(PROGRAM) or ref.endswith(ONNX)


def has_gradients(network: nn.Module) -> bool:
    """Whether no part of ``network`` is a black box."""
    return not any(isinstance(module, BlackBox) for module in network.modules())


def load(ref: str, wish: ModelOverrides) -> Network:
    """The black box that ``ref`` names, asked once about one grey image for the number of its classes.

    Without ``--mean`` and ``--std`` it gets pixels as they are, in [0, 1].

    Raises:
        InputError: no such program or file, or no answer.
    """
    net: BlackBox = Program(ref, wish.num_classes) if ref.startswith(PROGRAM) else OnnxFile(ref)
    size = wish.input_size or _own_size(net) or (3, 32, 32)
    with torch.no_grad():
        classes = net(torch.full((1, *size), 0.5)).shape[1]
    channels = size[0]
    config = resolve(ref, ModelConfig(classes, size, (0.0,) * channels, (1.0,) * channels), wish)
    notes = (
        ()
        if wish.mean is not None
        else ("a black box, without gradients; it gets pixels in [0, 1], --mean and --std give others",)
    )
    return build.assemble(net, ref, ref, config, {}, notes)


def _own_size(net: BlackBox) -> tuple[int, int, int] | None:
    if not isinstance(net, OnnxFile):
        return None
    _, channels, height, width = net.input.shape
    sizes = (channels, height, width)
    return sizes if all(isinstance(side, int) for side in sizes) else None
