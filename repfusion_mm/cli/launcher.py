"""Check the launcher of a command line."""

import os

import torch

#: The environment variables that mmengine reads for each launcher, and the
#: command that sets them.
LAUNCHERS = dict(
    pytorch=(
        ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
        'torchrun (tools/dist_train.sh)',
    ),
    slurm=(
        ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
        'srun (tools/slurm_train.sh)',
    ),
    mpi=(
        (
            'OMPI_COMM_WORLD_RANK',
            'OMPI_COMM_WORLD_SIZE',
            'OMPI_COMM_WORLD_LOCAL_RANK',
            'MASTER_ADDR',
        ),
        'mpirun of Open MPI, with MASTER_ADDR set,',
    ),
)


def check_launcher(launcher: str) -> None:
    """Refuse a launcher that did not start this process.

    Raises:
        ValueError: Its environment variables are missing, or it needs GPUs.
    """
    if launcher == 'none':
        return
    names, command = LAUNCHERS[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f'expected a process that {command} started for --launcher '
            f'{launcher}, got none of {", ".join(missing)} in the '
            'environment; use this command, or leave --launcher out for a '
            'single process'
        )
    if launcher != 'pytorch' and not torch.cuda.is_available():
        raise ValueError(
            f'expected GPUs for --launcher {launcher}, got none; start '
            'processes on CPUs with tools/dist_train.sh'
        )
