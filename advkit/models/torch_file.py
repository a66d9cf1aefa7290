"""What torch.save writes, read without running anything in it; files of other kinds known by their first bytes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch

from advkit.files.errors import InputError

SAFE_TORCH = (2, 6)  # before it, weights_only could be made to run code: CVE-2025-32434


def unpickle(path: Path) -> object:
    """The object in ``path``, of tensors and plain containers alone.

    Raises:
        InputError: damaged, unreadable, or holds what would run code; a torch too old to refuse such files.
    """
    _require_safe_torch(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        why = "damaged, or holds more than tensors, which could run code"
        raise InputError(f"{path}: not a plain state dict ({why}); save it again as safetensors") from error


def _require_safe_torch(path: Path) -> None:
    numbers = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if numbers is None or tuple(map(int, numbers.groups())) < SAFE_TORCH:
        raise InputError(
            f"{path}: torch {torch.__version__} could run code hidden in it (CVE-2025-32434); "
            "install torch 2.6 or later, or give a safetensors file"
        )
