"""Files that would run code when they are read, given to the command lines.

Each holds a canary: a pickle, or a config, that creates a file when it is
unpickled or run.
"""

import pickle
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch

from repfusion_mm.analysis.dumped_config import read_dumped_config
from repfusion_mm.cli.config import enable_safe_loading
from repfusion_mm.datasets.feature_cache.files import FeatureReader
from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.checkpoint.safe_pickle import FORBIDDEN
from tests.helpers.cached import make_cache
from tests.helpers.canary import Canary
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.toy import LAYER

DISTILL = ROOT / 'configs/distill/repfusion_resnet18_digits.py'
FINETUNE = ROOT / 'configs/finetune/mmpretrain/resnet18-scratch_digits.py'
REPFUSION = FINETUNE.with_name('resnet18-repfusion_digits.py')
WEIGHTS = 'diffusion_pytorch_model'


@pytest.fixture
def canary(tmp_path):
    return tmp_path / 'canary'


@pytest.fixture
def short(digits, teacher_folder, tmp_path):
    """The arguments of a distillation of one iteration."""
    return [
        DISTILL, '--work-dir', tmp_path / 'run', '--cfg-options',
        *data_options(digits, 2),
        f'model.teacher.pretrained={teacher_folder}',
        'model.student.stem_channels=4', 'model.student.base_channels=4',
        'train_dataloader.batch_size=4',
        'train_dataloader.sampler.num_samples=4', 'train_cfg.max_epochs=1',
    ]  # fmt: skip


def data_options(digits, num_datasets):
    root = digits / 'data/digits'
    return [
        *[
            f'train_dataloader.dataset.datasets.{i}.data_root={root}'
            for i in range(num_datasets)
        ],
        *(
            [
                f'val_dataloader.dataset.data_root={root}',
                f'test_dataloader.dataset.data_root={root}',
            ]
            if num_datasets == 1
            else []
        ),
    ]


def poison(path, canary, plain=False):
    """Write a canary as torch.save writes, or as pickle does."""
    if plain:
        path.write_bytes(pickle.dumps(Canary(canary)))
    else:
        content = dict(state_dict=Canary(canary), meta=dict(epoch=1, iter=1))
        torch.save(content, path)
    return path


def test_executed_code_would_be_detected(tmp_path, canary):
    torch.load(poison(tmp_path / 'given.pth', canary), weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize('plain', [False, True], ids=['torch', 'pickle'])
@pytest.mark.parametrize('name', [f'{WEIGHTS}.bin', f'{WEIGHTS}.safetensors'])
def test_a_teacher_runs_no_code(
    short, teacher_folder, tmp_path, canary, name, plain
):
    folder = tmp_path / 'teacher'
    shutil.copytree(teacher_folder, folder)
    (folder / f'{WEIGHTS}.safetensors').unlink()
    poison(folder / name, canary, plain)
    result = run_main(
        'tools/train.py', *short, f'model.teacher.pretrained={folder}',
        expect=1,
    )  # fmt: skip
    assert str(folder) in result.last_line
    assert not canary.exists()


@pytest.mark.parametrize('use', ['resume', 'load_from', 'test', 'student'])
@pytest.mark.parametrize('plain', [False, True], ids=['torch', 'pickle'])
def test_a_checkpoint_runs_no_code(
    short, digits, tmp_path, canary, use, plain
):
    path = poison(tmp_path / 'given.pth', canary, plain)
    options = ['--work-dir', tmp_path / 'run', '--cfg-options']
    options += data_options(digits, 1)
    command = {
        'resume': ['tools/train.py', '--resume', path, *short],
        'load_from': ['tools/train.py', *short, f'load_from={path}'],
        'test': ['tools/test.py', FINETUNE, path, *options],
        'student': [
            'tools/train.py', REPFUSION, *options,
            f'model.backbone.init_cfg.checkpoint={path}',
        ],
    }[use]  # fmt: skip
    result = run_main(*command, expect=1)
    assert 'cannot be read safely' in result.last_line
    assert str(path) in result.last_line
    assert not canary.exists()


@pytest.mark.parametrize('hook', [[], ['default_hooks.strict_load=None']])
def test_the_config_in_a_checkpoint_is_not_run(short, tmp_path, canary, hook):
    short = [*short, *hook]
    run_main('tools/train.py', *short)
    path = tmp_path / 'run/epoch_1.pth'
    content = load_from_local(path)
    text = f'import pathlib\npathlib.Path({str(canary)!r}).touch()'
    content['meta']['config'] = text
    torch.save(content, path)
    result = run_main('tools/train.py', '--resume', path, *short)
    assert 'ignored the config in the checkpoint' in result.output
    assert not canary.exists()


@pytest.fixture
def address(tmp_path):
    """Serve the files in ``tmp_path``."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_a_checkpoint_at_a_url_runs_no_code(short, tmp_path, canary, address):
    name = poison(tmp_path / 'given.pth', canary).name
    result = run_main(
        'tools/train.py', *short, f'load_from={address}/{name}', expect=1,
        no_proxy='*',
    )  # fmt: skip
    assert 'cannot be read safely' in result.last_line
    assert f'{address}/{name}' in result.last_line
    assert not canary.exists()


def save_weights(path):
    torch.save({}, path)
    return path


@pytest.mark.parametrize('value', ['', '1'])
def test_the_other_loaders_run_no_code(tmp_path, canary, monkeypatch, value):
    """mmengine's loaders of other URLs call torch.load themselves.

    Users set the variable for versions of mmengine that torch cannot load.
    """
    monkeypatch.setenv(FORBIDDEN, value)
    path = poison(tmp_path / 'given.pth', canary)
    enable_safe_loading()
    assert torch.load(save_weights(tmp_path / 'own.pth')) == {}
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=False)
    assert not canary.exists()


def test_a_report_runs_no_code(tmp_path, canary):
    text = f'a = __import__("pathlib").Path({str(canary)!r}).touch()'
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r'expected a config .* a call at line 1'
    ):
        read_dumped_config(path)
    assert not canary.exists()


def test_the_converter_runs_no_code(tmp_path, canary):
    for plain in (False, True):
        path = poison(tmp_path / 'model.pt', canary, plain)
        result = run_main(
            'tools/model_converters/guided_diffusion_to_diffusers.py',
            path, tmp_path / 'out', '--preset', 'imagenet64', expect=1,
        )  # fmt: skip
        assert 'cannot be read safely' in result.last_line
        assert not canary.exists()
        assert not (tmp_path / 'out').exists()


def test_cached_features_run_no_code(tmp_path, teacher_folder, canary):
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
