"""Hooks in a real run of mmengine's runner on the miniature distiller."""

import json
import math
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import cv2
import diffusers
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner

import repfusion_mm
from repfusion_mm.engine import TimestepPolicyHook
from repfusion_mm.engine.checkpoint import load_from_local
from repfusion_mm.engine.sample_hook import make_grid
from repfusion_mm.engine.versions_hook import find_commit
from repfusion_mm.models import DiffusersTeacher
from tests.toy import DENOISER, LAYER, SCHEDULER, batch, distiller_config

LABELS = [0, 1, None, 3, 4, 5, None, 7]


@DATASETS.register_module()
class MemoryDataset(BaseDataset):
    """Eight random images, some unlabelled."""

    def __init__(self, labels):
        self.labels = list(labels)
        self.items = batch(len(self.labels), self.labels)
        super().__init__()

    def load_data_list(self):
        return [
            {} if label is None else dict(gt_label=label)
            for label in self.labels
        ]

    def prepare_data(self, idx):
        return {key: values[idx] for key, values in self.items.items()}


def optim_wrapper():
    return dict(
        constructor='repfusion_mm.PartwiseOptimWrapperConstructor',
        student=dict(optimizer=dict(type='SGD', lr=0.1)),
        policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
        decoder=dict(optimizer=dict(type='Adam', lr=1e-3)),
    )


def config(work_dir, hooks, labels=LABELS, max_epochs=4, **model):
    return Config(
        dict(
            default_scope='mmpretrain',
            model=distiller_config(**model),
            work_dir=str(work_dir),
            train_dataloader=dict(
                batch_size=4,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(type='MemoryDataset', labels=labels),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
            optim_wrapper=optim_wrapper(),
            custom_hooks=hooks,
            visualizer=dict(
                type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
            ),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            randomness=dict(seed=0),
            experiment_name=Path(work_dir).name,
        )
    )


def entropy_weights(runner):
    log = runner.message_hub.get_scalar('train/entropy_weight')
    return list(log.data[0])


def test_entropy_weight_decays_linearly_and_survives_a_resume(tmp_path):
    """Fault 6 of the public code: the decay restarts on resume."""
    hook = dict(
        type='repfusion_mm.TimestepPolicyHook',
        entropy_decay=0.75,
        entropy_floor=0.01,
    )
    whole = Runner.from_cfg(config(tmp_path / 'whole', [hook]))
    whole.train()
    expected = [max(0.1 * (1 - i / 6), 0.01) for i in range(8)]
    assert entropy_weights(whole) == pytest.approx(expected)
    cfg = config(tmp_path / 'resumed', [hook])
    cfg.resume = True
    cfg.load_from = str(tmp_path / 'whole' / 'epoch_3.pth')
    resumed = Runner.from_cfg(cfg)
    resumed.train()
    assert entropy_weights(resumed)[-2:] == pytest.approx(expected[-2:])
    assert resumed.model.policy.entropy_weight == 0.01
    assert TimestepPolicyHook(entropy_floor=0.2).entropy_weight(0.1, 1) == 0.1


def test_policy_is_recorded_in_lines_and_pictures(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook', num_records=4)
    runner = Runner.from_cfg(config(tmp_path, [hook]))
    runner.train()
    lines = Path(runner.log_dir, 'policy.jsonl').read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r['iter'] for r in records] == [2, 4, 6, 8]
    for record in records:
        assert record['timesteps'] == list(range(1000))
        assert sum(record['probabilities']) == pytest.approx(1, abs=1e-2)
        assert 0 < record['entropy'] <= math.log(1000) + 1e-3
        assert record['reward'] < 0 < record['advantage_std']
    pictures = sorted(Path(runner.log_dir).rglob('policy_*.png'))
    assert [p.stem for p in pictures] == [f'policy_{i}' for i in (2, 4, 6, 8)]
    assert cv2.imread(str(pictures[0])).std() > 0


def test_statistics_are_logged(tmp_path):
    runner = Runner.from_cfg(config(tmp_path, [], max_epochs=1))
    runner.train()
    scalars = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text()
    names = set(json.loads(scalars.splitlines()[-1]))
    assert {'reward', 'policy_entropy', 'advantage_std', 'timestep_mean'} <= (
        names
    )
    assert 'feature_spread' in names


def test_versions_commits_and_seed_are_written_down(tmp_path, monkeypatch):
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    hook = dict(type='repfusion_mm.VersionsHook')
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=1))
    runner.train()
    entry = json.loads(Path(runner.log_dir, 'versions.json').read_text())
    assert entry['packages']['torch'] == version('torch')
    assert entry['packages']['repfusion_mm'] == repfusion_mm.__version__
    assert 'mmcv-lite' not in entry['packages']
    assert (entry['seed'], entry['processes']) == (0, 1)
    assert entry['commits']['project'] is None


def test_commits_tell_changed_files(tmp_path):
    def git(*arguments):
        name = ['-c', 'user.name=a', '-c', 'user.email=a@b']
        subprocess.run(['git', *name, *arguments], cwd=tmp_path, check=True)

    assert find_commit(tmp_path) is None
    git('init', '-q')
    (tmp_path / 'file').write_text('one')
    git('add', 'file')
    git('commit', '-qm', 'one')
    commit = find_commit(tmp_path)
    assert re.fullmatch('[0-9a-f]{7,}', commit)
    (tmp_path / 'file').write_text('two')
    assert find_commit(tmp_path) == commit + '+'


@pytest.mark.parametrize(
    ('labels', 'model', 'message'),
    [
        ([None] * 8, {}, 'MemoryDataset with no labels at all'),
        (
            LABELS,
            dict(decoder=dict(type='repfusion_mm.SegDecoder', num_classes=7)),
            'SegDecoder reads, got MemoryDataset with gt_label, which Cls',
        ),
        (
            LABELS,
            dict(decoder=dict(type='repfusion_mm.ClsDecoder', num_classes=7)),
            r'num_classes=7, got \[7\]',
        ),
    ],
)
def test_unfit_labels_stop_the_run_before_it_starts(
    tmp_path, labels, model, message
):
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    runner = Runner.from_cfg(config(tmp_path, [hook], labels, **model))
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert runner.iter == 0


def test_policies_that_do_not_learn_need_no_labels(tmp_path):
    hook = dict(type='repfusion_mm.TimestepPolicyHook', num_records=1)
    policy = dict(type='repfusion_mm.FixedTimestepPolicy', timestep=9)
    cfg = config(tmp_path, [hook], [None] * 8, 1, policy=policy, decoder=None)
    runner = Runner.from_cfg(cfg)
    runner.train()
    (record,) = Path(runner.log_dir, 'policy.jsonl').read_text().splitlines()
    assert json.loads(record)['timesteps'] == [9]


@pytest.mark.parametrize('averaged', [False, True])
def test_exported_student_is_that_of_the_checkpoint(tmp_path, averaged):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    if averaged:
        hooks.append(dict(type='EMAHook', momentum=0.1))
    runner = Runner.from_cfg(config(tmp_path, hooks, max_epochs=2))
    runner.train()
    student = load_from_local(tmp_path / 'student.pth')
    checkpoint = load_from_local(tmp_path / 'epoch_2.pth')
    weights = student['state_dict']
    assert set(weights) == set(runner.model.student.state_dict())
    for key, value in weights.items():
        assert torch.equal(value, checkpoint['state_dict'][f'student.{key}'])
    trained = runner.model.student.state_dict()
    is_raw = torch.equal(weights['conv1.weight'], trained['conv1.weight'])
    assert is_raw != averaged
    assert student['meta']['averaged'] == averaged
    assert student['meta']['epoch'] == 2
    assert 'DiffusersTeacher' in student['meta']['teacher']
    assert not (tmp_path / 'student.pth.tmp').exists()


def test_checkpoints_hold_nothing_of_the_teacher(tmp_path):
    hooks = [dict(type='EMAHook', momentum=0.1)]
    runner = Runner.from_cfg(config(tmp_path, hooks, max_epochs=1))
    runner.train()
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')
    for part in ('state_dict', 'ema_state_dict'):
        roots = {key.split('.')[0] for key in checkpoint[part]}
        if part == 'ema_state_dict':
            roots = {k.split('.')[1] for k in checkpoint[part] if '.' in k}
        assert roots == {'student', 'connectors', 'policy', 'decoder'}


def teacher_config(work_dir, hooks):
    cfg = config(work_dir, hooks, max_epochs=1)
    cfg.model = dict(
        type='repfusion_mm.DenoisingDiffusion',
        denoiser=DENOISER,
        scheduler=SCHEDULER,
        data_preprocessor=cfg.model.data_preprocessor,
    )
    cfg.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
    return cfg


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_trained_denoiser_is_a_teacher(tmp_path, dtype):
    hooks = [
        dict(type='EMAHook', momentum=0.5),
        dict(type='repfusion_mm.ExportDenoiserHook', dtype=dtype),
    ]
    runner = Runner.from_cfg(teacher_config(tmp_path, hooks))
    runner.train()
    folder = tmp_path / 'teacher'
    unet = diffusers.UNet2DModel.from_pretrained(folder)
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')
    for key, value in unet.state_dict().items():
        averaged = checkpoint['state_dict'][f'denoiser.{key}']
        stored = averaged.to(getattr(torch, dtype)).float()
        assert torch.equal(value.float(), stored)
    raw = runner.model.denoiser.conv_in.weight
    assert not torch.equal(unet.conv_in.weight.float(), raw)
    teacher = DiffusersTeacher([LAYER], str(folder))
    assert teacher.num_timesteps == 1000
    feats = teacher(torch.rand(2, 3, 16, 16), torch.tensor([3, 999]))
    assert feats[LAYER].dtype == torch.float32


def test_samples_are_drawn_through_the_visualizer(tmp_path):
    hook = dict(
        type='repfusion_mm.SampleImagesHook',
        num_records=2,
        min_interval=1,
        num_images=5,
        num_steps=2,
    )
    runner = Runner.from_cfg(teacher_config(tmp_path, [hook]))
    runner.train()
    pictures = sorted(Path(runner.log_dir).rglob('samples_*.png'))
    assert [p.stem for p in pictures] == ['samples_1', 'samples_2']
    image = cv2.imread(str(pictures[0]))
    assert image.shape == (128, 192, 3)
    assert image[64:, 128:].max() == 0  # the sixth place is empty


def test_grid_keeps_images_and_their_order():
    images = torch.arange(3).view(3, 1, 1, 1).expand(3, 3, 2, 2) / 2
    grid = make_grid(images, min_side=2)
    assert grid.shape == (4, 4, 3)
    assert grid[0, 0, 0] == 0
    assert grid[0, 2, 0] == 128
    assert grid[2, 0, 0] == 255


@pytest.mark.parametrize(
    ('hook', 'arguments', 'message'),
    [
        ('TimestepPolicyHook', dict(num_records=0), 'num_records of 1'),
        ('TimestepPolicyHook', dict(entropy_decay=0), 'entropy_decay'),
        ('TimestepPolicyHook', dict(entropy_decay=1.5), 'entropy_decay'),
        ('ExportDenoiserHook', dict(dtype='half'), "got 'half'"),
    ],
)
def test_bad_arguments_are_refused(hook, arguments, message):
    with pytest.raises(ValueError, match=message):
        HOOKS.build(dict(type=f'repfusion_mm.{hook}', **arguments))


@pytest.mark.parametrize('resume', [True, False])
def test_checkpoints_of_another_architecture_are_refused(tmp_path, resume):
    hook = dict(type='repfusion_mm.StrictLoadHook')
    written = Runner.from_cfg(config(tmp_path / 'a', [hook], max_epochs=1))
    written.train()
    path = str(tmp_path / 'a' / 'epoch_1.pth')
    for name, width, fits in (('b', 8, True), ('c', 16, False)):
        student = distiller_config()['student']
        cfg = config(
            tmp_path / name,
            [hook],
            student=dict(student, base_channels=width),
        )
        cfg.load_from, cfg.resume = path, resume
        runner = Runner.from_cfg(cfg)
        if fits:
            runner.load_or_resume()
            continue
        with pytest.raises(ValueError, match='of RepFusion, got') as error:
            runner.train()
        text = str(error.value)
        assert 'student.layer1.0.conv1.weight: expected (16,' in text
        assert f'expected the checkpoint {path} to fit' in text
        assert ('to start training from' in text) is not resume
        assert runner.iter == 0
