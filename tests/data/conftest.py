"""Fixtures of the tests of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from advkit.data.reference import load
from advkit.files.errors import InputError


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture
def refused() -> Callable[..., None]:
    """Loading (and reading all of) ``ref`` is one line that says each of ``words``."""

    def check(ref: object, *words: str, **options) -> None:
        with pytest.raises(InputError) as caught:
            load(str(ref), **options).batch(slice(None))
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 600
        for word in words:
            assert word in message

    return check
