"""Files that would run code when they are read, given to the command lines.

Each holds a canary: a pickle, or a config, that makes a file when it is
unpickled or run.
"""

import pickle
import shutil
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from repfusion_mm.analysis.dumped_config import read_dumped_config
from repfusion_mm.datasets.feature_cache.files import FeatureReader
from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.cached import make_cache
from tests.helpers.canary import Canary
from tests.helpers.launcher import ROOT, launch
from tests.helpers.toy import LAYER
from tests.system import kill_runs

FINETUNE = ROOT / 'configs/finetune/mmpretrain/resnet18-repfusion_digits.py'
TEACHER = ROOT / 'projects/digits/ddpm_digits'
WEIGHTS = 'diffusion_pytorch_model'


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    return kill_runs.prepare(tmp_path_factory.mktemp('digits'), num_epochs=1)


@pytest.fixture
def canary(tmp_path):
    return tmp_path / 'canary'


def poison(path, canary, plain=False):
    """Write a canary as torch.save writes, or as pickle does."""
    if plain:
        path.write_bytes(pickle.dumps(Canary(canary)))
    else:
        content = dict(state_dict=Canary(canary), meta=dict(epoch=1, iter=1))
        torch.save(content, path)
    return path


def last_line(output):
    return output.strip().splitlines()[-1]


@pytest.mark.parametrize('plain', [False, True], ids=['torch', 'pickle'])
@pytest.mark.parametrize('name', [f'{WEIGHTS}.bin', f'{WEIGHTS}.safetensors'])
def test_a_teacher_runs_none(config, tmp_path, canary, name, plain):
    folder = tmp_path / 'teacher'
    shutil.copytree(TEACHER, folder)
    (folder / f'{WEIGHTS}.safetensors').unlink()
    poison(folder / name, canary, plain)
    output = launch(
        *kill_runs.command(config, tmp_path / 'run'),
        f'model.teacher.pretrained={folder}', expect=1,
    )  # fmt: skip
    assert str(folder) in last_line(output)
    assert not canary.exists()


@pytest.mark.parametrize('use', ['resume', 'load_from', 'test', 'student'])
@pytest.mark.parametrize('plain', [False, True], ids=['torch', 'pickle'])
def test_a_checkpoint_runs_none(config, tmp_path, canary, use, plain):
    path = poison(tmp_path / 'given.pth', canary, plain)
    train, *options = kill_runs.command(config, tmp_path / 'run')[1:]
    command = {
        'resume': [train, *options, '--resume', path],
        'load_from': [train, *options, f'load_from={path}', 'resume=False'],
        'test': [ROOT / 'tools/test.py', FINETUNE, path],
        'student': [
            train, FINETUNE, '--cfg-options',
            f'model.backbone.init_cfg.checkpoint={path}',
        ],
    }[use]  # fmt: skip
    if use == 'load_from':
        command.remove('--resume')
    if use in ('test', 'student'):
        command += ['--work-dir', tmp_path / 'run']
        data = config.parent / 'digits'
        if use == 'test':
            command.append('--cfg-options')
        else:
            # The last --cfg-options counts: all of them in one.
            at = command.index('--cfg-options')
            flags = command[at + 2 :]
            command = [*command[:at], *flags, *command[at : at + 2]]
        command += [
            f'{split}_dataloader.dataset.data_root={data}'
            for split in ('train', 'val', 'test')
        ]
    output = launch(sys.executable, *command, expect=1)
    assert 'cannot be read safely' in last_line(output)
    assert str(path) in last_line(output)
    assert not canary.exists()


def test_the_config_in_a_checkpoint_is_not_run(config, tmp_path, canary):
    command = kill_runs.command(config, tmp_path)
    launch(*command, 'train_cfg.max_epochs=1')
    path = Path((tmp_path / 'last_checkpoint').read_text())
    content = load_from_local(path)
    text = f'import pathlib\npathlib.Path({str(canary)!r}).touch()'
    content['meta']['config'] = text
    torch.save(content, path)
    output = launch(*command, 'train_cfg.max_epochs=1')
    assert "left out the checkpoint's own config" in output
    assert not canary.exists()


@pytest.fixture
def address(tmp_path):
    """Serve what is in ``tmp_path``."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_a_checkpoint_at_an_address_runs_none(
    config, tmp_path, canary, address
):
    name = poison(tmp_path / 'given.pth', canary).name
    command = kill_runs.command(config, tmp_path / 'run')
    command.remove('--resume')
    output = launch(
        *command, f'load_from={address}/{name}', expect=1, no_proxy='*'
    )
    assert 'cannot be read safely' in last_line(output)
    assert f'{address}/{name}' in last_line(output)
    assert not canary.exists()


def test_the_other_loaders_run_none(tmp_path, canary):
    """mmengine has more of them, for addresses of its own."""
    path = poison(tmp_path / 'given.pth', canary)
    code = (
        'from repfusion_mm.cli.config import _read_safely; _read_safely(); '
        'import torch; '
        f'torch.load({str(path)!r}, weights_only=False)'
    )
    tools = str(ROOT / 'tools')
    output = launch(sys.executable, '-c', code, expect=1, PYTHONPATH=tools)
    assert 'UnpicklingError' in output
    assert not canary.exists()


def test_a_report_runs_none(tmp_path, canary):
    text = f'a = __import__("pathlib").Path({str(canary)!r}).touch()'
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'expected a config .*__import__'):
        read_dumped_config(path)
    assert not canary.exists()


def test_the_converter_runs_none(tmp_path, canary):
    for plain in (False, True):
        path = poison(tmp_path / 'model.pt', canary, plain)
        output = launch(
            sys.executable,
            'tools/model_converters/guided_diffusion_to_diffusers.py',
            path, tmp_path / 'out', '--preset', 'imagenet64', expect=1,
        )  # fmt: skip
        assert 'cannot be read safely' in last_line(output)
        assert not canary.exists()
        assert not (tmp_path / 'out').exists()


def test_cached_features_run_none(tmp_path, teacher_folder, canary):
    make_cache(tmp_path, teacher_folder)
    folder = tmp_path / 'features'
    array = np.array([Canary(canary)], dtype=object)
    np.save(folder / f'{LAYER}.npy', array, allow_pickle=True)
    with pytest.raises(ValueError, match=f'damaged {LAYER}.npy'):
        FeatureReader(folder)
    meta = (folder / 'cache.json').read_text()
    (folder / 'cache.json').write_text(meta.replace(LAYER, '../' + LAYER))
    with pytest.raises(ValueError, match=r'damaged cache\.json .*a path'):
        FeatureReader(folder)
    assert not canary.exists()
