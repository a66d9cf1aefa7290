"""AdaBN (Li et al. 2016): batch-norm takes its statistics from the target."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from advkit.adaptation.method import AdaptationMethod, MethodContext
from advkit.files.errors import InputError
from advkit.models.modes import modes_kept
from advkit.parallel import process_group
from advkit.training.batch_statistics import precise_batch_norm
from advkit.training.order import epoch_order


class AdaBN(AdaptationMethod):
    """Trains on the source as ever; whenever the network is measured or kept, its statistics are the target's.

    They are those of whole batches of all target images but the rest that fills none, in an order that the seed draws;
    where there are fewer than a batch, of one batch of them.
    """

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        norms = [module for module in context.network.modules() if isinstance(module, _BatchNorm)]
        if not any(norm.track_running_stats for norm in norms):
            raise InputError(f"--method adabn: {context.network.spec.ref} has no batch-norm; choose another method")
        if len(context.target) < process_group.world_size():
            raise InputError(f"--method adabn: {len(context.target)} target images for more processes; start fewer")

    def prepare_inference(self) -> None:
        """Estimate the statistics of every batch-norm on the target, as it is without augmentation."""
        own, target = self.context, self.context.target
        size = min(own.params.batch_size, len(target))
        size -= size % process_group.world_size()
        order = epoch_order(len(target), own.params.seed, 0)[: len(target) // size * size]
        plain = replace(own.params, batch_size=size, augment=frozenset())
        with modes_kept(own.network), torch.random.fork_rng(devices=[]):
            precise_batch_norm(own.network, target, order, plain, 0)
