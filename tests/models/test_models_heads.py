"""Other classes than a network's own: rows of equal names are kept, the others are fresh, the body is the same."""

from __future__ import annotations

import pytest
import torch

from advkit.files.errors import InputError
from advkit.models.build import create
from advkit.models.heads import reset_head, select_classes, with_classes
from advkit.models.network import Network

SIZE = (3, 16, 16)


def network(arch: str = "advkit/resnet8") -> Network:
    return create(arch, num_classes=3, input_size=SIZE, labels=("cat", "dog", "eel"), seed=1).eval()


def images() -> torch.Tensor:
    return torch.rand(4, *SIZE, generator=torch.Generator().manual_seed(0))


def test_some_classes_by_name() -> None:
    whole = network()
    some = select_classes(whole, ("eel", "cat"))
    assert (some.spec.num_classes, some.spec.labels, some.spec.sha256) == (2, ("eel", "cat"), whole.spec.sha256)
    assert torch.equal(some(images()), whole(images())[:, [2, 0]])
    assert "of its 3 classes the 2 of the data" in some.spec.notes[-1]
    with pytest.raises(InputError, match="no class 'ant'"):
        select_classes(whole, ("cat", "ant"))


@pytest.mark.parametrize("arch", ["advkit/resnet8", "advkit/cnn", "timm/test_resnet", "torchvision/squeezenet1_1"])
@pytest.mark.parametrize("names", [("ant", "dog"), ("eel", "dog", "cat"), ("dog", "ant", "bee", "cat", "fly")])
def test_rows_of_equal_names_are_kept(arch: str, names: tuple[str, ...]) -> None:
    size = (3, 64, 64)
    old = create(arch, num_classes=3, input_size=size, labels=("cat", "dog", "eel"), seed=1).eval()
    new = reset_head(old, names, 7)
    assert (new.spec.num_classes, new.spec.labels) == (len(names), names)
    pixels = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    before, after = old(pixels), new(pixels)
    assert after.shape == (2, len(names))
    fresh = [k for k, name in enumerate(names) if name not in old.spec.labels]
    for place, name in enumerate(names):
        if name in old.spec.labels:
            assert torch.allclose(after[:, place], before[:, old.spec.labels.index(name)], atol=1e-5)
    other = reset_head(old, names, 8)(pixels)
    assert [k for k in range(len(names)) if not torch.equal(other[:, k], after[:, k])] == fresh  # only those are drawn
    assert torch.equal(reset_head(old, names, 7)(pixels), after)
    assert f"{len(names) - len(fresh)} kept by name" in new.spec.notes[-1]


def test_the_old_network_stays() -> None:
    old = network()
    before = old(images())
    reset_head(old, ("ant", "dog"), 0)
    assert torch.equal(old(images()), before)


def test_numbers_are_no_names() -> None:
    old = create("advkit/cnn", num_classes=3, input_size=SIZE, labels=("0", "1", "2"), seed=1)
    assert "0 kept by name" in reset_head(old, ("0", "1"), 0).spec.notes[-1]
    same = with_classes(old, ("0", "1", "2"), 0)
    assert same is old
    assert with_classes(old, ("a", "b", "c"), 0) is old  # named by the data


def test_with_classes() -> None:
    old = network()
    assert with_classes(old, ("cat", "dog", "eel"), 0) is old
    assert with_classes(old, ("dog", "cat", "eel"), 0).spec.labels == ("dog", "cat", "eel")
    bare = create("advkit/cnn", num_classes=2, input_size=SIZE)
    assert with_classes(bare, ("x", "y"), 0).spec.labels == ("x", "y")
