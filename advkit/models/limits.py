"""How large a net a file of a stranger may ask for: building a larger one would never end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from advkit.files.errors import InputError

MOST_MODULES = 10_000  # the deepest classifiers of timm have 1,800
LARGEST_ARGUMENT = 10_000  # no depth, width or side in use comes near
_DEEPEST = 8  # of lists in lists


def check_args(ref: str, model_args: object, depth: int = 0) -> None:
    """Raise InputError, which begins with ``ref``, for model arguments that hold an absurdly large number."""
    if isinstance(model_args, dict):
        values: list[Any] = list(model_args.values())
    elif isinstance(model_args, list | tuple):
        values = list(model_args)
    else:
        values = []
        if isinstance(model_args, int | float) and not abs(model_args) <= LARGEST_ARGUMENT:  # NaN neither
            raise InputError(
                f"{ref}: a model argument is {model_args:.4g}; up to {LARGEST_ARGUMENT:,} is allowed, check the file"
            )
    if depth > _DEEPEST:
        raise InputError(f"{ref}: its model arguments are nested {depth} deep; check the file")
    for value in values:
        check_args(ref, value, depth + 1)


@contextlib.contextmanager
def few_modules(ref: str) -> Iterator[None]:
    """Nets that are built inside end with InputError, which begins with ``ref``, when they grow over 10,000 parts."""
    count = 0

    def hook(module: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > MOST_MODULES:
            raise InputError(f"{ref}: asks for a net of over {MOST_MODULES:,} modules; check its model arguments")

    handle = register_module_module_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()
