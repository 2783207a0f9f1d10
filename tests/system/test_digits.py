"""The complete demo, shortened, and the study of its probe."""

import json
import shutil
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

import mmpretrain

from projects.digits import demo, probe_study, runs
from tests.helpers.launcher import ROOT, launch, run_main


def test_finetuning_config_works_with_the_tool_of_mmpretrain(digits, tmp_path):
    """The config and its base are copied into an empty folder."""
    name = 'resnet18-scratch_digits.py'
    for config in (name, 'resnet18-repfusion_digits.py'):  # its base
        shutil.copy(ROOT / 'configs/finetune/mmpretrain' / config, tmp_path)
    tools = Path(mmpretrain.__file__).parent / '.mim/tools'
    output = launch(
        sys.executable, tools / 'train.py', tmp_path / name,
        '--work-dir', tmp_path / 'out', '--cfg-options',
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2', cwd=digits,
    )  # fmt: skip
    assert 'accuracy/top1' in output


class InProcess(Executor):
    """Run in this process, with what a test replaced in it."""

    def __init__(self, *args):
        pass

    def submit(self, function, *args):
        future = Future()
        future.set_result(function(*args))
        return future


def test_demo_runs_from_scratch(tmp_path, monkeypatch):
    """Each run is shortened to one epoch or two iterations."""
    build_runner = runs.runs.build_runner

    def build_short_runner(argv):
        options = ['train_cfg.max_epochs=1']
        if 'finetune' in argv[0]:
            options = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
        return build_runner([*argv, *options])

    monkeypatch.setattr(runs.runs, 'build_runner', build_short_runner)
    monkeypatch.setattr(runs, 'PROBE_GRID', (0, 999))
    monkeypatch.setattr(demo, 'BUDGETS', (50,))
    monkeypatch.setattr(demo, 'ProcessPoolExecutor', InProcess)
    result = run_main(demo, '--from-scratch', '--seeds', '2', cwd=tmp_path)

    first, *steps = result.output.splitlines()
    assert first == 'logs: work_dirs/demo/log*.txt'
    titles = [line.split(' s  ')[-1] for line in steps[:7]]
    assert titles == [
        'trained the teacher',
        'distilled with 50 labels',
        'finetuned scratch on 50 labels, seed 0',
        'finetuned scratch on 50 labels, seed 1',
        'finetuned repfusion on 50 labels, seed 0',
        'finetuned repfusion on 50 labels, seed 1',
        'probed 3 timesteps',
    ]
    out = tmp_path / 'work_dirs/demo'
    results = json.loads((out / 'results.json').read_text())
    assert set(results['labels']) == {'50'}
    assert len(results['labels']['50']['scratch']) == 2
    assert 0.7 < results['pixels']['50'] < 0.9
    assert all(0 < a < 1 for a in results['labels']['50']['repfusion'])
    mean = results['policy']['timestep_mean']
    assert set(results['probe']) == {'0', '999', str(round(mean))}
    assert results['seconds'] > 0
    assert (out / 'results.png').exists()
    page = (out / 'report.html').read_text()
    for text in ('Policy and probe', 'train_50.txt', 'commit of repfusion_mm'):
        assert text in page, text
    assert (out / 'teacher/teacher/config.json').exists()


def test_the_study_of_the_probe_prints_its_tables(digits, monkeypatch):
    monkeypatch.setattr(runs, 'PROBE_GRID', (300, 999))
    monkeypatch.setattr(probe_study.prepare_data, 'BUDGETS', (20,))
    result = run_main(
        probe_study, '--draws', '2', '--permutations', '1', cwd=digits
    )
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in result.output.splitlines()
        if line.startswith('|')
    ]
    labels, regret, stated, tested, covered = rows[2]
    # t = 300 is the best one.
    assert (labels, regret) == ('20', '0.00 (0.0)')
    assert 0.5 < float(stated) < 1 and 0.5 < float(tested) < 1
    assert covered in ('0 of 2', '1 of 2', '2 of 2')
    # Nothing is said of permuted labels only.
    assert rows[5:] == [
        [kind, '0 of 1', '1 of 1']
        for kind in ('ClassTask', 'MaskTask', 'KeypointTask')
    ]
