"""The options of training."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner

from repfusion_mm.cli import make_parser, runner
from repfusion_mm.cli.runner import latest_checkpoint, merge_args
from repfusion_mm.cli.train import parse_args
from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers import tiny_run
from tests.helpers.launcher import run_main


def write_run(folder, named=None):
    """Write a work directory with one checkpoint."""
    folder.mkdir()
    path = folder / 'epoch_2.pth'
    path.touch()
    pointer = folder / 'last_checkpoint'
    pointer.write_text(str(path) if named is None else named)
    return path


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('/data/My Pictures/a  b', '/data/My Pictures/a  b'),
        ("'My Pictures'", 'My Pictures'),
        ('[My Pictures, b]', ['My Pictures', 'b']),
        ('[ 1, (2 , c d), 3.5 ]', [1, (2, 'c d'), 3.5]),
        ('1, 2', [1, 2]),
        (' 1 ', 1),
        ('[a,b]', ['a', 'b']),
        ('Bild (1) [2].png', 'Bild (1) [2].png'),
        ('None', None),
        ('é ü', 'é ü'),
    ],
)
def test_spaces_within_values_of_options_are_kept(text, expected):
    args = parse_args(['mine.py', '--cfg-options', f'a={text}', 'b=1'])
    assert args.cfg_options == dict(a=expected, b=1)


def test_a_copied_run_resumes_from_its_own_checkpoint(tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert latest_checkpoint(str(first)) is None
    theirs = write_run(first)
    assert latest_checkpoint(str(first)) == str(theirs)
    own = write_run(second, named=str(theirs))
    assert latest_checkpoint(str(second)) == str(own)
    own.unlink()  # then the checkpoint of the other run is not used
    with pytest.raises(FileNotFoundError, match=r'second.* --resume C'):
        latest_checkpoint(str(second))


def test_a_checkpoint_outside_the_work_dir_is_found(tmp_path):
    elsewhere = tmp_path / 'epoch_9.pth'  # out_dir of the checkpoint hook
    elsewhere.touch()
    write_run(tmp_path / 'run', named=str(elsewhere))
    assert latest_checkpoint(str(tmp_path / 'run')) == str(elsewhere)


def test_an_empty_pointer_is_named(tmp_path):
    write_run(tmp_path / 'run', named='')
    with pytest.raises(FileNotFoundError, match='last_checkpoint names'):
        latest_checkpoint(str(tmp_path / 'run'))


def test_an_option_without_a_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        make_parser('').parse_args(['mine.py', '--cfg-options', 'a.b', 'c=1'])
    error = capsys.readouterr().err
    assert "expected key=value after --cfg-options, got 'a.b'" in error


@pytest.mark.parametrize('value', ['dict(b=1,c=2)', '[dict(b=1,c=2)]'])
def test_a_dict_as_an_option_is_refused(value, capsys):
    with pytest.raises(SystemExit):
        make_parser('').parse_args(['mine.py', '--cfg-options', f'a={value}'])
    error = capsys.readouterr().err
    assert 'set the keys of a dict one by one (a.b=1 c.0.type=NAME)' in error


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A config of the tiny model in a file, whose weight starts at 1."""
    cfg = tiny_run.config('run', 'run')
    cfg['custom_imports']['imports'] += ['tests.helpers.tiny_run']
    cfg['default_hooks']['strict'] = dict(type='repfusion_mm.StrictLoadHook')
    del cfg['work_dir'], cfg['experiment_name'], cfg['log_level']
    Config(cfg).dump(tmp_path / 'mine.py')
    weights = dict(state_dict=dict(weight=torch.tensor(50.0)))
    torch.save(weights, tmp_path / 'init.pth')
    torch.save({'conv.weight': torch.ones(2)}, tmp_path / 'other.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_tiny(*flags, expect=0, **environ):
    return run_main(
        'tools/train.py', 'mine.py', '--work-dir', 'run', *flags,
        expect=expect, **environ,
    )  # fmt: skip


def weight(path='run/iter_8.pth'):
    return load_from_local(path)['state_dict']['weight'].item()


def test_load_from_is_loaded_if_there_is_nothing_to_resume(mine):
    option = ['--cfg-options', 'load_from=init.pth']
    output = run_tiny('--resume', *option).output
    assert 'no checkpoint in run to resume from: loading init.pth' in output
    assert weight() > 20
    os.remove('run/iter_8.pth')
    # Then the checkpoint in the work directory takes precedence.
    Path('run/last_checkpoint').write_text('iter_4.pth')
    output = run_tiny('--resume', *option).output
    assert 'iter_4.pth' in output and 'loading init.pth' not in output
    assert weight() > 20
    # The config in the work directory does not resume.
    assert 'resume' not in Config.fromfile('run/mine.py')
    run_main('tools/train.py', 'run/mine.py', '--work-dir', 'again')
    assert load_from_local('again/iter_8.pth')['meta']['iter'] == 8


def test_a_refused_run_keeps_the_config_of_the_earlier_one(mine):
    run_tiny()
    config, earlier = Path('run/mine.py'), Path('run/mine.py').read_text()
    options = ['--cfg-options', 'optim_wrapper.optimizer.lr=0.3']
    run_tiny('--resume', 'init.pth', *options, expect=1)
    assert config.read_text() == earlier
    run_tiny('--resume', *options, expect=1)
    assert config.read_text() == earlier
    run_tiny(*options)
    assert Config.fromfile(config).optim_wrapper.optimizer.lr == 0.3


def test_a_run_that_has_ended_says_that_nothing_is_trained(mine):
    assert 'nothing to train' not in run_tiny().output
    output = run_tiny('--resume').output
    assert 'nothing to train: the run of 9 iterations had ended' in output
    assert 'start a new run with load_from=CHECKPOINT' in output


@pytest.mark.parametrize(
    ('flags', 'fragments'),
    [
        (['--resume', 'init.pth'], ['init.pth', 'partial', 'load_from=']),
        (
            ['--cfg-options', 'load_from=init.pth', 'resume=True'],
            ['init.pth', 'partial', 'load_from='],
        ),
        (
            ['--cfg-options', 'load_from=other.pth'],
            ['other.pth', 'weight: not in the checkpoint'],
        ),
        (
            ['--cfg-options', 'load_from=~/nowhere.pth'],
            ['/nowhere.pth', 'not a file'],
        ),
        (['--resume', '.'], ['folder', 'init.pth', '--work-dir .']),
        (['--cfg-options', 'load_from=.'], ['folder', 'init.pth']),
        (['--launcher', 'slurm'], ['srun', 'SLURM_PROCID', '--launcher']),
        (['--launcher', 'mpi'], ['mpirun', 'OMPI_COMM', '--launcher']),
        (['--launcher', 'pytorch'], ['torchrun', 'RANK', '--launcher']),
    ],
    ids=' '.join,
)
def test_wrong_options_are_explained(mine, monkeypatch, flags, fragments):
    for name in ('RANK', 'MASTER_ADDR', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    result = run_tiny(*flags, expect=1)
    text = ' '.join(result.output.splitlines()[-6:])
    for fragment in fragments:
        assert fragment in text, text


def test_home_folders_are_expanded(mine):
    shutil.copy('init.pth', mine / 'home.pth')
    run_main(
        'tools/train.py', '~/mine.py', '--work-dir', '~/in_home',
        '--cfg-options', 'load_from=~/home.pth', HOME=str(mine),
    )  # fmt: skip
    assert weight('in_home/iter_8.pth') > 20


def test_a_new_run_names_the_checkpoints_that_it_overwrites(mine):
    hook = 'default_hooks.checkpoint.type=repfusion_mm.SafeCheckpointHook'
    flags = ['--cfg-options', hook]
    assert 'of an earlier run' not in run_tiny(*flags).output
    assert 'of an earlier run (iter_9.pth)' in run_tiny(*flags).output
    assert 'of an earlier run' not in run_tiny('--resume', *flags).output


def test_a_load_from_that_another_tool_drops_is_refused(mine):
    with Path('mine.py').open('a', encoding='utf-8') as file:
        file.write("\nload_from = 'init.pth'\n")
    cfg = Config.fromfile('mine.py')
    # As mmpretrain's tools/train.py --resume.
    cfg.update(work_dir='run', resume=True, load_from=None)
    with pytest.raises(ValueError, match=r"load_from='init\.pth' of .*mine"):
        Runner.from_cfg(cfg).train()


def merge_amp(wrapper):
    cfg = Config(
        dict(
            model={}, train_dataloader={}, train_cfg={}, work_dir='none',
            optim_wrapper=wrapper,
        )
    )  # fmt: skip
    merge_args(cfg, parse_args(['mine.py', '--amp']))
    return cfg.optim_wrapper


PLAIN = [
    {},
    dict(type='OptimWrapper'),
    dict(type='mmengine.OptimWrapper'),
    dict(type='mmengine.optim.OptimWrapper'),
    dict(type=OptimWrapper),
]


@pytest.fixture
def processor(monkeypatch):
    """Set whether there is a GPU, and the fastest dtype."""

    def set_to(dtype, gpu):
        monkeypatch.setattr(runner, 'resolve_dtype', lambda *args: dtype)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)

    return set_to


@pytest.mark.parametrize('gpu', [False, True])
@pytest.mark.parametrize('wrapper', PLAIN)
def test_amp_is_bfloat16_where_it_is_fast(processor, gpu, wrapper):
    processor(torch.bfloat16, gpu)
    merged = merge_amp(wrapper)
    assert merged == dict(type='repfusion_mm.BFloat16OptimWrapper')


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('wrapper', PLAIN)
def test_amp_is_float16_on_other_gpus(processor, dtype, wrapper):
    processor(dtype, True)
    merged = merge_amp(wrapper)
    assert merged == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    processor(dtype, False)
    with pytest.raises(SystemExit, match=r'AVX512-BF16.*leave --amp out'):
        merge_amp(wrapper)


def test_amp_keeps_the_settings_of_the_config(processor):
    """Only AmpOptimWrapper has a dtype and scales the loss."""
    processor(torch.bfloat16, True)
    for wrapper in (
        dict(type=AmpOptimWrapper, loss_scale=2.0),
        dict(type='mmengine.AmpOptimWrapper', dtype='float16'),
        dict(type='repfusion_mm.BFloat16OptimWrapper'),
    ):
        assert merge_amp(dict(wrapper)) == wrapper
    merged = merge_amp(dict(dtype='float16', loss_scale=2.0))
    assert merged == dict(
        type='AmpOptimWrapper', dtype='float16', loss_scale=2.0
    )
    with pytest.raises(SystemExit, match='it would replace'):
        merge_amp(dict(type='mmengine.ApexOptimWrapper'))


def test_loss_scaling_needs_a_gpu(processor):
    processor(torch.bfloat16, False)
    with pytest.raises(SystemExit, match=r'GPU for AmpOptimWrapper.*BFloat16'):
        merge_amp(dict(type='AmpOptimWrapper', loss_scale=2.0))
    with pytest.raises(SystemExit, match=r"on a CPU, got \['loss_scale'\]"):
        merge_amp(dict(type='OptimWrapper', loss_scale=2.0))
