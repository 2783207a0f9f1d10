"""Kill a distillation repeatedly, and compare its end with a reference run.

    PYTHONPATH=. python tests/system/kill_runs.py --kills 100

Each start of a run is ended by SIGKILL: every second one at a random moment,
the others while a checkpoint is being written. It is resumed until it
completes; then the next run starts, until there were enough kills. Everything
that the last checkpoint holds of the training must be bit-identical to that of
an uninterrupted run.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from projects.digits.prepare_data import write_digits
from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.equal import assert_equal
from tests.helpers.launcher import ROOT, load_script
from tests.helpers.process_state import clear_instances

CONFIG = ROOT / 'configs/distill/repfusion_resnet18_digits.py'
PARTS = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
#: Seconds after which a run hangs.
TIMEOUT = 300
#: Small batches, many checkpoints, and EMA weights as in the paper.
SETTINGS = """
_base_ = [{config!r}]
train_dataloader = dict(batch_size=8, sampler=dict(num_samples=160))
train_cfg = dict(max_epochs={epochs})
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5),
    timestep_policy=dict(num_records=1),
)
custom_hooks = [dict(type='EMAHook', momentum=0.01)]
"""


def command(config: Path, work_dir: Path) -> list:
    """Return the arguments of ``tools/train.py``, which starts or resumes."""
    parts = 'train_dataloader.dataset.datasets'
    data = config.parent / 'digits'
    return [
        str(config), '--resume', '--work-dir', str(work_dir), '--cfg-options',
        *[f'{parts}.{i}.data_root={data}' for i in range(2)],
        f'model.teacher.pretrained={ROOT}/projects/digits/ddpm_digits',
    ]  # fmt: skip


def prepare(folder: Path, num_epochs: int) -> Path:
    """Write the digits and a config of 20 iterations an epoch."""
    write_digits(folder / 'digits')
    config = folder / 'digits.py'
    config.write_text(SETTINGS.format(config=str(CONFIG), epochs=num_epochs))
    return config


def start(arguments: list, log: Path) -> BaseProcess:
    """Start ``tools/train.py`` in a process that has imported its modules."""
    main = load_script('tools/train.py').main
    with log.open('a', buffering=1) as file:
        process = multiprocessing.get_context('fork').Process(
            target=_train, args=(main, arguments, file)
        )
        process.start()
    return process


def _train(main, arguments: list, log) -> None:
    os.setsid()  # to signal it with its workers
    os.chdir(ROOT)
    # Several threads may add numbers in another order.
    torch.set_num_threads(1)
    clear_instances()
    sys.stdout = sys.stderr = log
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.exit(main(arguments))


def wait(process: BaseProcess, timeout: float = TIMEOUT) -> int:
    """Return the exit status of a process, or minus the signal."""
    process.join(timeout)
    assert process.exitcode is not None, 'the run hangs'
    return process.exitcode


def is_writing(work_dir: Path) -> bool:
    """Return whether a checkpoint is being written."""
    return any(work_dir.glob('*.tmp'))


def kill_once(
    process: BaseProcess,
    work_dir: Path,
    rng: random.Random,
    while_writing: bool,
) -> bool:
    """Kill a process, and return whether it was killed before its end."""
    begin = time.monotonic()
    for leftover in work_dir.glob('*.tmp'):  # of the last kill
        leftover.unlink()
    while process.is_alive() and not has_started(work_dir, begin):
        time.sleep(0.01)
        assert time.monotonic() < begin + TIMEOUT, 'the run hangs'
    moment = time.monotonic() + rng.uniform(0, 4)
    while process.is_alive():
        if time.monotonic() > moment and (
            not while_writing or is_writing(work_dir)
        ):
            process.kill()
            return wait(process) == -signal.SIGKILL
        time.sleep(0.0005)
        assert time.monotonic() < begin + TIMEOUT, 'the run hangs'
    assert wait(process) == 0, 'the run has failed'
    return False


def has_started(work_dir: Path, begin: float) -> bool:
    """Return whether a process has made its log directory since ``begin``."""
    now = time.time() - (time.monotonic() - begin)
    return any(
        folder.stat().st_mtime >= now for folder in work_dir.glob('2*/')
    )


def find_differences(first: Path, second: Path) -> list:
    """Return the parts that are not bit-identical at the end of two runs."""
    found = []
    ends = [
        load_from_local((folder / 'last_checkpoint').read_text())
        for folder in (first, second)
    ]
    students = [
        load_from_local(folder / 'student.pth')['state_dict']
        for folder in (first, second)
    ]
    pairs = {part: [end[part] for end in ends] for part in PARTS}
    for name, (one, other) in {**pairs, 'student.pth': students}.items():
        try:
            assert_equal(one, other, name)
        except AssertionError as error:
            found.append(str(error))
    return found


def main(argv=None) -> dict:
    """Kill runs, compare them, and return the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--epochs', type=int, default=15)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix='kill_runs_') as folder:
        return kill_runs(Path(folder), args)


def kill_runs(folder: Path, args: argparse.Namespace) -> dict:
    """Kill runs in a folder until there were enough kills."""
    rng = random.Random(args.seed)
    config = prepare(folder, args.epochs)
    reference = folder / 'reference'
    log = folder / 'log.txt'
    status = wait(start(command(config, reference), log))
    assert status == 0, log.read_text()[-3000:]
    result = dict(
        kills=0, while_writing=0, truncated_files=0, runs=0, differ=[]
    )
    while result['kills'] < args.kills:
        result['runs'] += 1
        run = folder / f'run_{result["runs"]}'
        while True:
            while_writing = result['kills'] % 2 == 1
            process = start(command(config, run), log)
            if result['kills'] >= args.kills:
                assert wait(process) == 0, log.read_text()[-3000:]
                break
            if not kill_once(process, run, rng, while_writing):
                break
            result['kills'] += 1
            result['while_writing'] += while_writing
            result['truncated_files'] += is_writing(run)
        result['differ'] += find_differences(reference, run)
        print(json.dumps(result), flush=True)
    return result


if __name__ == '__main__':
    sys.exit(bool(main()['differ']))
