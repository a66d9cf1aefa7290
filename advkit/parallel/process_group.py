"""The processes that torchrun starts: who is which, sums over all of them, and items that they share.

Without torchrun there is one process, and every function here does what that one needs.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from advkit.files.errors import InputError

T = TypeVar("T")
_PATIENCE = datetime.timedelta(days=365)  # an item may take any time; who dies is noticed at once
_CONNECT = datetime.timedelta(seconds=10)


def join() -> tuple[int, int]:
    """Join the group that torchrun announces in the environment; returns (rank, world size), (0, 1) without one.

    Raises:
        InputError: the environment is not torchrun's.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    if not dist.is_initialized():
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        except (ValueError, RuntimeError) as error:
            raise InputError(f"cannot join the process group: {error}; start with torchrun") from error
    return dist.get_rank(), dist.get_world_size()


def leave() -> None:
    """Leave the group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def joined() -> Iterator[tuple[int, int]]:
    """(rank, world size) of this process, in the group until the block ends.

    After an error it stays: the others, who notice when it leaves, are not to complain before it has said why.
    """
    yield join()
    leave()


def world_size() -> int:
    """Number of processes in the group, 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number in the group, 0 without one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """``values`` summed over all ranks (as given, on one)."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def items_each(most: int, count: int) -> int:
    """How many of ``count`` items to take together: ``most``, or fewer, so that no rank is left without any."""
    return max(1, min(most, -(-count // world_size())))


def shared(make: Callable[[int], Iterable[T]], count: int) -> Iterator[T]:
    """What ``make`` yields for 0, 1, ..., ``count`` - 1, in this order, on the first rank; nothing on the others.

    Rank r makes those of every k with k % world size = r, and what it yields for one k is sent together: it can be
    pickled, and its tensors are on the CPU. A rank is ahead of what was taken from it by two k at most, so that memory
    stays flat. The iteration ends on all ranks together.

    Raises:
        InputError: another process has ended before its part was done.
    """
    own, world = rank(), world_size()
    if own == 0:
        for k in range(count):
            yield from make(k) if k % world == 0 else _received(k % world)
    else:
        sending: list[dist.Work | None] = []
        for k in range(own, count, world):
            made = io.BytesIO()
            _Pickler(made).dump(list(make(k)))
            _wait(sending)
            sending = _sending(made)
        _wait(sending)
    meet()


def meet() -> None:
    """Wait until every rank is here, however long that takes: collectives of torch's give up after half an hour."""
    word, others = torch.zeros(1), range(1, world_size())
    with _together():
        if rank() == 0:
            for other in others:
                _wait([dist.irecv(word, src=other)])
            _wait([dist.isend(word, dst=other) for other in others])
        else:
            _wait([dist.isend(word, dst=0)])
            _wait([dist.irecv(word, src=0)])


@contextlib.contextmanager
def first_rank_first() -> Iterator[None]:
    """The first rank runs the block before the others do, who find what it fetched."""
    if rank() > 0:
        meet()
    yield
    if rank() == 0:
        meet()


def first_to_fail() -> bool:
    """Whether no other process of torchrun's has said why this run ends: the caller says it now.

    From here on SIGTERM, with which torchrun ends all after the first failure, is ignored.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    if host is None or not port.isdecimal():
        return True
    try:  # torchrun's own store, which outlives the processes
        store = TCPStore(host, int(port), is_master=False, timeout=_CONNECT)
        return int(store.add(f"advkit/failures/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1)) == 1
    except RuntimeError:
        return True


class _Pickler(pickle.Pickler):
    """Of a tensor that is part of a larger one, its own elements alone."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)

    def reducer_override(self, value: object) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _sending(made: io.BytesIO) -> list[dist.Work | None]:
    """``made`` on its way to the first rank: how long it is, then itself."""
    content = torch.frombuffer(made.getbuffer(), dtype=torch.uint8)
    with _together():
        return [dist.isend(part, dst=0) for part in (torch.tensor([len(content)]), content)]


def _received(source: int) -> list[T]:
    """What ``source`` sent."""
    length = torch.zeros(1, dtype=torch.int64)
    with _together():
        _wait([dist.irecv(length, src=source)])
        content = torch.empty(int(length), dtype=torch.uint8)
        _wait([dist.irecv(content, src=source)])
    found: list[T] = pickle.loads(content.numpy().data)
    return found


def _wait(works: Iterable[dist.Work | None]) -> None:
    with _together():
        for work in works:
            if work is not None:
                work.wait(_PATIENCE)


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError("another process of this run has ended; its own message, or torchrun's, says why") from error
