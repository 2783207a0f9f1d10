import json

import pytest
import torch
from benchmark_data import main
from mmengine.config import Config
from synthetic_data import build_train_loader, describe

from tests.helpers.launcher import ROOT
from tests.helpers.toy import save_cifar10

DISTILL = ROOT / 'configs/distill'


@pytest.fixture(autouse=True)
def _nothing_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def config(name):
    return Config.fromfile(DISTILL / f'repfusion_r18_{name}.py')


@pytest.mark.parametrize('name', ['cifar', 'on-device_cifar'])
def test_pipeline_and_preprocessor_are_measured(name, capsys):
    path = DISTILL / f'repfusion_r18_{name}.py'
    flags = ['--images', '256', '--passes', '2', '--workers', '0', '1']
    main([str(path), *flags, '--device', 'cpu', '--json', 'data.json'])
    with open('data.json') as file:
        report = json.load(file)
    assert report['batch_size'] == 128
    assert list(report['pipeline']) == ['0', '1']
    passes = [*report['pipeline'].values(), report['data_preprocessor']]
    assert all(len(rates) == 2 and min(rates) > 0 for rates in passes)
    output = capsys.readouterr().out
    assert 'data: stand-in pictures' in output
    assert 'pipeline, 1 workers' in output


@pytest.mark.parametrize(
    ('name', 'shape', 'num_classes'),
    [
        ('cifar', (3, 32, 32), 10),
        ('tiny-imagenet', (3, 64, 64), 200),
        ('on-device_tiny-imagenet', (3, 64, 64), 200),
        ('imagenet', (3, 256, 256), 1000),
        ('celebahq', (3, 256, 256), None),
    ],
)
def test_stand_ins_go_through_the_configs_pipeline(name, shape, num_classes):
    loader = build_train_loader(
        config(name), batch_size=4, num_workers=0, num_images=8
    )
    batches = list(loader)
    assert len(batches) == 2
    for batch in batches:
        assert len(batch['inputs']) == len(batch['data_samples']) == 4
        for image, sample in zip(batch['inputs'], batch['data_samples']):
            assert image.shape == shape
            assert image.dtype == torch.uint8
            assert image.float().std() > 10
            assert ('gt_label' in sample) == (num_classes is not None)
            if num_classes:
                assert 0 <= sample.gt_label < num_classes


def test_data_on_this_disk_go_before_stand_ins(tmp_path):
    save_cifar10(tmp_path / 'data/cifar10')
    cfg = config('cifar')
    cfg.train_dataloader.dataset.type = 'tests.helpers.toy.MiniCIFAR10'
    for num_images, num_batches in ((12, 3), (1000, 10)):
        loader = build_train_loader(cfg, 4, 0, num_images)
        assert describe(loader) == 'the data on this disk (MiniCIFAR10)'
        assert len(list(loader)) == num_batches


def test_unlabelled_parts_stay_unlabelled():
    cfg = Config.fromfile(DISTILL / 'repfusion_custom.py')
    with pytest.raises(SystemExit, match="'data/mine' or the size"):
        build_train_loader(cfg)
    loader = build_train_loader(cfg, 4, 0, num_images=8, image_size=(80, 90))
    assert 'stand-in' in describe(loader)
    samples = next(iter(loader))['data_samples']
    assert sum('gt_label' in sample for sample in samples) == 2


@pytest.mark.parametrize(
    'name',
    [
        'distill/repfusion_r18_celebamask',
        'distill/repfusion_r50_wflw',
        'finetune/mmpose/td-hm_res50-scratch_2xb64-60e_wflw-256x256',
    ],
)
def test_labels_of_places_have_no_stand_in(name):
    with pytest.raises(SystemExit, match='have no stand-in'):
        main([str(ROOT / f'configs/{name}.py')])


def test_finetuning_is_measured_too(capsys):
    path = 'finetune/mmpretrain/resnet18-scratch_1xb64_cifar10.py'
    main([str(ROOT / 'configs' / path), '--images', '64', '--passes', '1',
          '--workers', '0', '--device', 'cpu'])  # fmt: skip
    assert 'data preprocessor, cpu' in capsys.readouterr().out


@pytest.mark.parametrize('flag', ['--images', '--passes'])
def test_nothing_cannot_be_measured(flag, capsys):
    with pytest.raises(SystemExit):
        main([str(DISTILL / 'repfusion_r18_cifar.py'), flag, '0'])
    assert 'of at least 1' in capsys.readouterr().err
