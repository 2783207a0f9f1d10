"""Run a function on several ranks."""

import multiprocessing
import tempfile

import torch.distributed as dist


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


def _run(function, rank, world_size, store, results):
    dist.init_process_group(
        'gloo', f'file://{store}', rank=rank, world_size=world_size
    )
    results.put((rank, function(rank)))
    dist.barrier()
    dist.destroy_process_group()
