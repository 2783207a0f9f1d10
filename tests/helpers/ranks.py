"""Run a function on several ranks."""

import multiprocessing
import os
import tempfile

import torch.distributed as dist

from repfusion_mm.cli import build_runner
from tests.helpers.process_state import clear_instances


def run_on_ranks(function, world_size=2):
    """Return the results of ``function(rank)``, in forked processes."""
    context = multiprocessing.get_context('fork')
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(
                target=_run,
                args=(function, rank, world_size, f'{folder}/store', results),
            )
            for rank in range(world_size)
        ]
        for process in ranks:
            process.start()
        found = dict(results.get(timeout=60) for _ in ranks)
        for process in ranks:
            process.join()
    return [found[rank] for rank in range(world_size)]


def train_on_rank(rank, config, *options):
    """Train a config as one of two ranks; call it in ``run_on_ranks``."""
    clear_instances()
    # As torchrun sets them; the process group exists already.
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1', MASTER_PORT='29500',
    )  # fmt: skip
    arguments = [config, '--launcher', 'pytorch', *options]
    build_runner([str(argument) for argument in arguments]).train()


def _run(function, rank, world_size, store, results):
    dist.init_process_group(
        'gloo', f'file://{store}', rank=rank, world_size=world_size
    )
    results.put((rank, function(rank)))
    dist.barrier()
    dist.destroy_process_group()
