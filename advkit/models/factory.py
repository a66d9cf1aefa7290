"""``FILE.py:FACTORY``: the user's own net. The only form of model reference that runs foreign code."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from advkit.files.errors import InputError
from advkit.models import build


def make_net(ref: str, file: Path, name: str, num_classes: int | None, seed: int) -> nn.Module:
    """What ``name()`` in ``file`` returns, its random weights from ``seed``.

    The file may import its neighbours, as a script may. A factory with a parameter ``num_classes`` is told it.

    Raises:
        InputError: no such file or function, an exception in it, something returned that is no module.
    """
    factory = _import(ref, file, name)
    try:
        takes = num_classes is not None and "num_classes" in inspect.signature(factory).parameters
        net = build.seeded(lambda: factory(num_classes=num_classes) if takes else factory(), seed)
    except Exception as error:  # foreign code
        raise InputError(f"{ref}: {name}() raised {type(error).__name__}: {str(error)[:200]}; mend it") from error
    if not isinstance(net, nn.Module):
        raise InputError(f"{ref}: {name}() gave a {type(net).__name__}, not a torch.nn.Module; mend it")
    return net


def _import(ref: str, file: Path, name: str) -> Callable[..., Any]:
    if not file.is_file():
        raise InputError(f"{ref}: no such file {file}; check the path")
    module_name = f"advkit_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path_before = list(sys.path)
    sys.modules[module_name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # foreign code
        raise InputError(f"{ref}: {file} raised {type(error).__name__}: {str(error)[:200]}; mend it") from error
    finally:
        sys.path[:] = path_before
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InputError(f"{ref}: {file} has no function {name!r}; check its name")
    return factory  # type: ignore[no-any-return]
