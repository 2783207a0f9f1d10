"""A toy diffusion model and a miniature of timm on the same images."""

import csv
import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from repfusion_mm.analysis.probe import Prober, read_best
from repfusion_mm.registry import MODELS
from tests.helpers.launcher import run_main
from tests.helpers.timm_models import save_model, teacher_config
from tests.helpers.toy import LAYER, distiller_config

SCRIPT = 'tools/analysis_tools/compare_teachers.py'
FLAGS = ['--timesteps', '0', '500']


@pytest.fixture(scope='module')
def job(tmp_path_factory, teacher_folder):
    """Images whose class is a color, and two configs."""
    folder = tmp_path_factory.mktemp('compare')
    (folder / 'images').mkdir()
    rng = np.random.default_rng(0)
    labels = []
    for i in range(12):
        pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels[..., i % 2] += 120
        cv2.imwrite(str(folder / f'images/{i}.png'), pixels)
        labels.append(f'{i}.png {i % 2}\n')
    (folder / 'images/labels.txt').write_text(''.join(labels))
    denoiser = dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained=teacher_folder,
        layers=['down_blocks.0.resnets.0', LAYER],
    )
    write_config(folder, 'ddpm', denoiser, student_indices=[-1, -1])
    weights = folder / 'resnet.safetensors'
    save_model(weights, 'resnet')
    resnet = teacher_config('resnet', layers=[2], pretrained=str(weights))
    write_config(
        folder, 'resnet', resnet, batch_size=5,
        policy=dict(type='repfusion_mm.FixedTimestepPolicy'), decoder=None,
    )  # fmt: skip
    return folder


def write_config(folder, name, teacher, batch_size=4, **model):
    dataset = dict(
        type='mmpretrain.CustomDataset',
        data_root=str(folder / 'images'),
        ann_file='labels.txt',
        pipeline=[
            dict(type='mmpretrain.LoadImageFromFile'),
            dict(type='mmpretrain.RandomFlip', prob=0.5),
            dict(type='mmpretrain.PackInputs'),
        ],
    )
    config = dict(
        custom_imports=dict(imports=['repfusion_mm']),
        model=distiller_config(teacher=teacher, input_size=16, **model),
        train_dataloader=dict(
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dataset,
        ),
    )
    path = folder / f'{name}.py'
    Config(config).dump(str(path))
    return path


def compare(job, *names, flags=FLAGS, options=(), expect=0, out='out'):
    options = ['--cfg-options', *options] if options else []
    return run_main(
        SCRIPT, *(job / f'{name}.py' for name in names), *flags,
        '--out', job / out, *options, expect=expect,
    )  # fmt: skip


@pytest.mark.slow
def test_teachers_are_compared(job, monkeypatch):
    output = compare(job, 'ddpm', 'resnet').output
    page = (job / 'out/comparison.md').read_text()
    assert page in output
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in page.splitlines()
        if line.startswith('|')
    ]
    assert [row[0] for row in rows[2:]] == [
        'ddpm', 'resnet', 'raw pixels', 'no image',
    ]  # fmt: skip
    assert rows[4][1].startswith('1.000') and rows[5][1].startswith('0.500')
    with (job / 'out/comparison.csv').open() as file:
        points = list(csv.DictReader(file))
    assert [(p['teacher'], p['layer'], p['timestep']) for p in points] == [
        ('ddpm', 'down_blocks.0.resnets.0', '0'),
        ('ddpm', 'down_blocks.0.resnets.0', '500'),
        ('ddpm', LAYER, '0'),
        ('ddpm', LAYER, '500'),
        ('resnet', 'layer2', '0'),
    ]
    scores, label = read_best(job / 'out/ddpm/probe.csv')
    layer = label.splitlines()[-1]
    own = [p for p in points if p['layer'] == layer]
    assert [float(p['score']) for p in own] == pytest.approx(
        [*scores.values()], abs=1e-5
    )
    assert cv2.imread(str(job / 'out/comparison.png')).std() > 0

    # The same command computes nothing; the lines can be pasted.
    monkeypatch.setattr(Prober, 'features', None)
    assert page in compare(job, 'ddpm', 'resnet').output
    for name, lines in zip(
        ('ddpm', 'resnet'), re.findall(r'```python\n(.*?)```', page, re.S)
    ):
        path = job / f'{name}_pasted.py'
        path.write_text(lines)
        model = MODELS.build(Config.fromfile(path).model)
        assert len(model.teacher.live.feature_shapes) == 1
        assert 'FixedTimestepPolicy' in str(model.policy)


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (dict(names=('ddpm', 'ddpm')), "names, got ['ddpm', 'ddpm']; rename"),
        (dict(flags=['--timesteps', '1000']), 'of the teacher, got [1000]'),
        (dict(flags=['--max-images', '2']), 'images or more, got 2'),
    ],
)
def test_impossible_comparisons_are_refused(job, edit, message):
    names = edit.pop('names', ('resnet', 'ddpm'))
    result = compare(
        job, *names, flags=[*FLAGS, *edit.pop('flags', [])], expect=1,
        out='none',
    )  # fmt: skip
    assert message in result.last_line
    assert not (job / 'none').exists()


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('prob=0.5', 'prob=0.0', 'different pixels in resnet and other'),
        ("ann_file='labels.txt',", 'with_label=False,', 'got 0; give labels'),
    ],
)
def test_other_images_are_refused(job, old, new, message):
    text = (job / 'resnet.py').read_text()
    assert old in text
    (job / 'other.py').write_text(text.replace(old, new))
    result = compare(job, 'resnet', 'other', expect=1, out='none')
    assert message in result.last_line
    assert not (job / 'none').exists()
