"""Errors of command lines end in one line."""

import os
import re
from concurrent.futures import ProcessPoolExecutor
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, MODELS
from mmpretrain.datasets import CIFAR10

from repfusion_mm.cli import report_errors
from repfusion_mm.cli.error_reporting import describe
from repfusion_mm.utils.arguments import check_integer


def test_a_message_of_several_lines_becomes_one_line():
    error = ValueError('expected a, got b:\n  c\nd: fix it')
    assert describe(error) == 'ValueError: expected a, got b: c; d: fix it'


def test_an_assertion_without_a_message_shows_its_code():
    try:
        assert [] == [1]
    except AssertionError as caught:
        error = AssertionError().with_traceback(caught.__traceback__)
    assert 'assert [] == [1] in ' in describe(error)


@pytest.mark.parametrize(
    ('module', 'package'),
    [
        ('diffusers', 'diffusers'),
        ('mmseg', 'mmsegmentation'),
        ('sklearn', 'scikit-learn'),
        ('pkg_resources', 'setuptools<81'),
    ],
)
def test_a_missing_module_names_its_package(module, package):
    error = ModuleNotFoundError(f'No module named {module!r}', name=module)
    assert describe(error).endswith(f"; run: pip install '{package}'")


@pytest.mark.parametrize('module', ['mine', 'mmcv.ops'])  # in mmcv-lite
def test_other_missing_modules_name_no_package(module):
    error = ModuleNotFoundError(f'No module named {module!r}', name=module)
    assert 'pip' not in describe(error)


def test_a_long_message_is_cut():
    assert len(describe(ValueError('x' * 9999))) < 1100


def test_the_traceback_comes_before_the_last_line(capsys):
    with pytest.raises(SystemExit) as stop, report_errors():
        raise FileNotFoundError(2, 'No such file or directory', 'x.txt')
    assert 'Traceback' in capsys.readouterr().err
    assert str(stop.value.code).strip() == (
        "FileNotFoundError: [Errno 2] No such file or directory: 'x.txt'"
    )


def report(error, capsys):
    """Return what is printed before the last line, and the last line."""
    with pytest.raises(SystemExit) as stop, report_errors():
        raise error
    return capsys.readouterr().err, stop.value.code.strip()


@pytest.mark.parametrize('text', ['no a in b', 'no a in:\nb\nc', ''])
def test_a_message_is_printed_once(capsys, text):
    traceback, last_line = report(ValueError(text), capsys)
    assert traceback.splitlines()[-2:] == [
        f'  File "{__file__}", line {report.__code__.co_firstlineno + 3}, '
        'in report',
        '    raise error',
    ]
    assert last_line.startswith('ValueError: ')


def test_a_message_that_another_one_repeats_is_printed_once(capsys):
    class Part:
        def __init__(self):
            raise ValueError('no a in b')

    MODELS.register_module('PartThatFails', module=Part, force=True)
    with pytest.raises(SystemExit) as stop, report_errors():
        MODELS.build(dict(type='PartThatFails'))
    traceback = capsys.readouterr().err
    assert stop.value.code.count('no a in b') == 1
    assert 'no a in b' not in traceback.replace("ValueError('no a in b')", '')
    assert traceback.count('in __init__') == 1


def report_call(function, capsys):
    """Return what is printed before the last line, and the last line."""
    with pytest.raises(SystemExit) as stop, report_errors():
        function()
    return capsys.readouterr().err, stop.value.code.strip()


class CheckedDataset(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        check_integer('index', index, 9)


@pytest.mark.parametrize('where', ['here', 'loader', 'pool'])
def test_what_a_check_says_is_one_line(capsys, where):
    def call():
        if where == 'here':
            check_integer('index', 0, 9)
        if where == 'loader':
            loader = torch.utils.data.DataLoader(
                CheckedDataset(), num_workers=1
            )
            next(iter(loader))
        with ProcessPoolExecutor(1) as pool:
            pool.submit(check_integer, 'index', 0, 9).result()

    traceback, last_line = report_call(call, capsys)
    assert traceback == ''
    assert re.match(r'ValueError: expected index.* 9 or more', last_line)


@pytest.mark.parametrize(
    'call',
    [
        lambda: os.path.join(None, 'a'),
        lambda: torch.stack([[1]]),
    ],
)
def test_errors_of_others_keep_their_traceback(capsys, call):
    """Their messages begin with "expected", too."""
    traceback, last_line = report_call(call, capsys)
    assert 'expected ' in last_line
    assert 'lambda: ' in traceback


def test_a_cut_message_is_complete_before_the_last_line(capsys):
    message = 'x' * 2000 + ' the end'
    traceback, last_line = report(ValueError(message), capsys)
    assert traceback.endswith('the end\n')
    assert last_line.endswith('x ...')


class BrokenDataset(torch.utils.data.Dataset):
    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 4

    def __getitem__(self, index):
        try:
            raise OSError('cause')
        except OSError:
            raise self.error  # noqa: B904


class TwoArguments(Exception):
    """Torch cannot raise it again in another process."""

    def __init__(self, first, second):
        super().__init__(f'{first}\n{second}')


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('no image: a.jpg'), 'ValueError: no image: a.jpg'),
        (KeyError('img'), "KeyError: 'img'"),
        (TwoArguments('a', 'b'), 'TwoArguments: a; b'),
    ],
)
def test_the_error_of_a_worker_process_is_the_last_line(capsys, error, line):
    loader = torch.utils.data.DataLoader(BrokenDataset(error), num_workers=1)
    with pytest.raises(SystemExit) as stop, report_errors():
        next(iter(loader))
    assert stop.value.code.strip() == line
    traceback = capsys.readouterr().err
    assert 'no image' not in traceback
    assert 'DataLoader worker process 0' in traceback
    assert 'raise self.error' in ''.join(traceback.splitlines()[-2:])


def test_ctrl_c_names_the_way_to_resume(capsys):
    with pytest.raises(SystemExit) as stop, report_errors():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert '--resume' in capsys.readouterr().err


def test_the_part_of_the_config_that_was_built_is_named():
    cfg = Config(
        dict(model=dict(type='mmengine.ImgDataPreprocessor', pad_values=3))
    )

    def build(cfg):
        return MODELS.build(dict(cfg.model, mean=[1.0]))

    with pytest.raises(TypeError) as caught:
        build(cfg)
    assert describe(caught.value).endswith(
        "(in model.pad_values; did you mean 'pad_value'?)"
    )


def test_a_message_that_names_a_setting_gets_no_other_place():
    cfg = Config(
        dict(model=dict(teacher=dict(pretrained='x', scheduler=dict(n=3))))
    )

    def check(scheduler):
        raise ValueError('set model.teacher.pretrained')

    def build(cfg):
        check(cfg.model.teacher.scheduler)

    with pytest.raises(ValueError, match='set model') as caught:
        build(cfg)
    assert describe(caught.value) == 'ValueError: set model.teacher.pretrained'


class NotThere(CIFAR10):
    url = 'http://127.0.0.1:9/cifar.tar.gz'  # nothing listens


class FromAnyPlace(BaseDataset):
    def load_data_list(self):
        try:
            urlopen(NotThere.url)
        except OSError:
            raise RuntimeError('no index')  # noqa: B904


@pytest.mark.parametrize(
    ('kind', 'advice'),
    [
        (NotThere, f'download {NotThere.url} on a machine with a network, an'),
        (FromAnyPlace, 'run this command on a machine with a network, and co'),
    ],
)
def test_a_dataset_that_cannot_be_downloaded_is_asked_for(
    tmp_path, kind, advice
):
    dataset = dict(type=kind, data_root=str(tmp_path), pipeline=[])
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))

    def build(cfg):
        return DATASETS.build(cfg.train_dataloader.dataset)

    with pytest.raises((URLError, RuntimeError)) as caught:
        build(cfg)
    text = describe(caught.value)
    assert '(in train_dataloader.dataset; the data is not in ' in text
    assert f'{str(tmp_path)!r} and could not be downloaded: {advice}' in text
