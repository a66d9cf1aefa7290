"""What processes of one group share: each item is made once, arrives once and in order, and nobody waits for ever."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from advkit.files.errors import InputError
from advkit.parallel import process_group

WORLD = 3
ITEMS = (0, 1, 2, 3, 8)  # fewer than ranks, as many, more


def an_item(k: int) -> list[tuple[int, torch.Tensor, dict[str, Any]]]:
    """k parts, each a view of a larger tensor beside numbers; of item 0 there are none."""
    whole = torch.arange(40.0).view(4, 10) + k
    return [(k, whole[part % 4, ::2], {"part": part, "made by": process_group.rank()}) for part in range(k)]


def shared(folder: Path, count: int) -> list[Any]:
    def make(k: int) -> Any:
        with (folder / f"made{count}-{process_group.rank()}").open("a") as log:
            log.write(f"{k}\n")
        yield from an_item(k)

    return list(process_group.shared(make, count))


def worker(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    found = {count: shared(Path(folder), count) for count in ITEMS}
    each = [process_group.items_each(10, count) for count in (0, 2, 20, 30, 300)]
    with process_group.first_rank_first():
        came = time.monotonic()  # of the whole machine
        time.sleep(0.2 if rank == 0 else 0.0)
    torch.save({"found": found, "each": each, "came": came}, f"{folder}/{rank}.pt")
    process_group.meet()
    if rank == 2:
        os._exit(0)  # as if killed
    ended = "nothing"
    try:
        list(process_group.shared(lambda k: [k], WORLD))
    except InputError as error:
        ended = str(error)
    Path(folder, f"ended{rank}").write_text(ended)
    os._exit(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("group")
    mp.spawn(worker, (str(found),), nprocs=WORLD)
    return found


def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


def test_the_first_rank_gets_each_item_once_and_in_order(folder: Path) -> None:
    first, *others = ranks(folder)
    for count in ITEMS:
        assert all(other["found"][count] == [] for other in others)
        expected = [part for k in range(count) for part in an_item(k)]
        assert len(first["found"][count]) == len(expected)
        for (k, pixels, said), (wanted_k, wanted, words) in zip(first["found"][count], expected, strict=True):
            assert k == wanted_k
            assert torch.equal(pixels, wanted)
            assert said == words | {"made by": k % WORLD}


def test_each_item_is_made_by_one_rank_alone(folder: Path) -> None:
    logs = [folder / f"made8-{rank}" for rank in range(WORLD)]
    assert [log.read_text().split() for log in logs] == [["0", "3", "6"], ["1", "4", "7"], ["2", "5"]]


def test_no_rank_is_left_without_items_that_could_have_some(folder: Path) -> None:
    for found in ranks(folder):
        assert found["each"] == [1, 1, 7, 10, 10]
    assert process_group.items_each(10, 3) == 3, "one process alone"


def test_the_first_rank_comes_first(folder: Path) -> None:
    first, *others = (found["came"] for found in ranks(folder))
    assert min(others) - first > 0.15


def test_a_rank_that_dies_is_noticed(folder: Path) -> None:
    for rank in (0, 1):
        assert "another process of this run has ended" in (folder / f"ended{rank}").read_text()


def test_of_a_tensor_that_is_part_of_a_larger_one_its_own_elements_are_sent() -> None:
    stream = io.BytesIO()
    process_group._Pickler(stream).dump([torch.zeros(1000, 1000)[3, :10]])
    assert stream.tell() < 1000


def test_one_process_makes_what_it_takes_and_no_more() -> None:
    made = []

    def make(k: int) -> Any:
        made.append(k)
        yield from (k, -k)

    found = process_group.shared(make, 3)
    assert [next(found), next(found), next(found)] == [0, 0, 1]
    assert made == [0, 1]
    assert list(found) == [-1, 2, -2]
