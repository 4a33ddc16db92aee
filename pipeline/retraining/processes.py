"""The processes that train together, as `torchrun` starts them; mostly one.

Each computes the gradients of its share of a batch and DistributedDataParallel averages them (gloo). What the
processes decide, they decide alike, from numbers that all of them have.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from pipeline.errors import UserError

PATIENCE = timedelta(minutes=30)
"""How long one process waits for another, which may be reading or evaluating."""
_TIMES = count()
"""Processes that join again need other keys: the store still holds the addresses of the last time."""


@dataclass(frozen=True)
class Processes:
    """This process's number and how many there are."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes, the same in each."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def share(self, module: nn.Module) -> None:
        """Give every process the first one's values."""
        if self.world > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.detach(), 0)

    def averaged(self, module: nn.Module) -> nn.Module:
        """The module with gradients that are means over all processes."""
        return nn.parallel.DistributedDataParallel(module) if self.world > 1 else module

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that `torchrun` started, and leave them at the end.

    Raises
    ------
    UserError
        Only a part of what `torchrun` sets is set.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Processes()
        return
    try:
        store, rank, world = next(rendezvous("env://", timeout=PATIENCE))
        store = dist.PrefixStore(f"deeprebirth {next(_TIMES)}", store)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=PATIENCE)
    except ValueError as error:
        raise UserError(f"WORLD_SIZE is {world}, but: {error}; start all processes with torchrun") from None
    try:
        yield Processes(rank, world)
    finally:
        dist.destroy_process_group()
