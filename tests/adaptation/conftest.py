"""What the tests of adaptation share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from advkit.data.images import ImageSet
from advkit.data.reference import load


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small batches are faster on one thread, and equal bits need no second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def photos() -> ImageSet:
    return load("scenes/photo", role="train").subset(torch.arange(4))


@pytest.fixture(scope="package")
def sketches() -> ImageSet:
    return load("scenes/sketch", role="train", labelled=False, whole=True).subset(torch.arange(4))
