"""Only complete checkpoints are resumed from."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import ReduceOnPlateauLR
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.resume.checks import (
    NUM_IMAGES,
    check_external_hashes,
    find_dependence,
)
from tests.helpers.memory_run import config
from tests.helpers.pipelines import latent_unet
from tests.helpers.timm_models import save_model, teacher_config


def without(*path):
    def edit(checkpoint):
        for name in path[:-1]:
            checkpoint = checkpoint[name]
        del checkpoint[path[-1]]

    return edit


def setting(value, *path):
    def edit(checkpoint):
        for name in path[:-1]:
            checkpoint = checkpoint[name]
        checkpoint[path[-1]] = value

    return edit


EDITS = {
    'no optimizer': (without('optimizer'), 'got no optimizer: it is partial'),
    'no schedules': (
        without('param_schedulers'),
        'param_schedulers of 0 schedules instead of {',
    ),
    'no meta': (without('meta'), 'no meta'),
    'meta of another type': (setting([], 'meta'), 'no meta'),
    'no epoch': (without('meta', 'epoch'), 'meta.epoch=None'),
    'negative iteration': (
        setting(-3, 'meta', 'iter'),
        'meta.iter=-3 instead of 0 to 4',
    ),
    'iteration after the end': (
        setting(10**9, 'meta', 'iter'),
        'meta.iter=1000000000 instead of 0 to 4',
    ),
    'no logs': (setting({}, 'message_hub'), 'no message_hub'),
    'text for a tensor': (
        setting('x', 'state_dict', 'student.conv1.weight'),
        'student.conv1.weight: not a tensor',
    ),
}


def run(work_dir, name, **settings):
    hooks = ['StrictLoadHook', 'ExactResumeHook']
    hooks = [dict(type=f'repfusion_mm.{hook}') for hook in hooks]
    cfg = config(work_dir, hooks, max_epochs=2)
    schedule = dict(type='ConstantLR', factor=0.5, by_epoch=True)
    cfg.param_scheduler = [schedule]
    cfg.experiment_name = f'{work_dir.name}-{name}'
    cfg.merge_from_dict(settings)
    Runner.from_cfg(cfg).train()


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp('written')
    run(folder, 'first')
    return folder / 'epoch_1.pth'


@pytest.mark.parametrize('case', EDITS)
def test_partial_checkpoints_are_refused(written, tmp_path, case):
    edit, message = EDITS[case]
    checkpoint = load_from_local(written)
    edit(checkpoint)
    path = tmp_path / 'edited.pth'
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=message) as error:
        run(tmp_path, 'second', resume=True, load_from=str(path))
    assert 'edited.pth' in str(error.value)


def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path):
    path = tmp_path / 'list.pth'
    torch.save([1, 2], path)
    for resume in (True, False):
        with pytest.raises(ValueError, match=r'list\.pth, got an object of'):
            run(tmp_path, f'{resume}', resume=resume, load_from=str(path))


def test_checkpoints_without_optimizer_are_refused(tmp_path):
    """save_optimizer=False writes them."""
    checkpoint = {'default_hooks.checkpoint': dict(
        type='CheckpointHook', interval=1, save_optimizer=False
    )}  # fmt: skip
    run(tmp_path, 'first', **checkpoint)
    with pytest.raises(ValueError, match=r'epoch_2\.pth .*got no optimizer'):
        run(tmp_path, 'second', resume=True, **checkpoint)


def test_averaged_weights_are_not_resumed_without_an_average(tmp_path):
    """EMAHook writes them in place of the trained ones."""
    average = dict(type='EMAHook', priority='NORMAL')
    hooks = {'default_hooks.average': average}
    run(tmp_path, 'first', **hooks, **{'train_cfg.max_epochs': 1})
    with pytest.raises(ValueError, match='expected an EMAHook to resume'):
        run(tmp_path, 'second', resume=True)


def test_images_that_were_added_are_not_read_in_another_order(tmp_path):
    run(tmp_path, 'first', **of_length(1, param_scheduler=None))
    labels = {'train_dataloader.dataset.datasets': [
        dict(type='MemoryDataset', labels=[0, 1, 2, 3, 4, 5, 6])
    ]}  # fmt: skip
    settings = of_length(2, resume=True, param_scheduler=None, **labels)
    with pytest.raises(ValueError, match=r'images of .*=8 \(now 7\)'):
        run(tmp_path, 'second', **settings)
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')
    del checkpoint['meta']['immutable_settings'][NUM_IMAGES]
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    run(tmp_path, 'third', **settings)  # written by an earlier version


def of_length(max_epochs, **settings):
    return {
        'train_cfg.max_epochs': max_epochs,
        'model.policy': dict(type='repfusion_mm.UniformTimestepPolicy'),
        **settings,
    }


@pytest.mark.parametrize('schedule', [None, 'ends later'])
def test_runs_on_whose_length_nothing_depends_are_continued(
    tmp_path, schedule
):
    fixed = dict(type='LinearLR', start_factor=0.5, begin=0, end=1)
    others = dict(param_scheduler=schedule and [fixed])
    run(tmp_path, 'first', **of_length(1, **others))
    run(tmp_path, 'second', **of_length(3, resume=True, **others))
    checkpoint = load_from_local(tmp_path / 'epoch_3.pth')
    assert checkpoint['meta']['iter'] == 6


def test_a_plateau_does_not_depend_on_the_length():
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    first, second = (
        ReduceOnPlateauLR(optimizer, monitor='loss') for _ in range(2)
    )
    for loss in (3.0, 2.0, 2.5):
        first.step(dict(loss=loss))
    checkpoint = dict(param_schedulers=[first.state_dict()])
    runner = SimpleNamespace(
        train_loop=None, model=None, param_schedulers=[second]
    )
    assert find_dependence(runner, checkpoint, {}) is None
    second.patience = 99
    assert 'patience' in find_dependence(runner, checkpoint, {})


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        (of_length(3), r'schedules end with the run .student.0.total_iters=1'),
        (
            {'train_cfg.max_epochs': 3, 'param_scheduler': None},
            'entropy weight of its policy',
        ),
        (
            of_length(
                2,
                param_scheduler=None,
                **{'train_dataloader.batch_size': 8},
            ),
            'an epoch had 2 iterations and now has 1',
        ),
    ],
)
def test_runs_of_another_length_are_refused(tmp_path, settings, reason):
    first = {k: v for k, v in settings.items() if 'batch' not in k}
    run(tmp_path, 'first', **{**first, 'train_cfg.max_epochs': 2})
    with pytest.raises(ValueError, match=reason) as error:
        run(tmp_path, 'second', resume=True, **settings)
    assert 'but not the state of optimizers' in str(error.value)


def latent_teacher(folder, **settings):
    return dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained=str(folder),
        layers=[latent_unet.LAYER],
        input_size=16,
        **settings,
    )


def timm_teacher(file):
    return teacher_config('convnext', [1], pretrained=str(file))


def with_teacher(teacher, **settings):
    return {
        'model.teacher': dict(_delete_=True, **teacher),
        'model.policy': dict(
            _delete_=True,
            type='repfusion_mm.FixedTimestepPolicy',
            timestep=0,
        ),
        **settings,
    }


def scale_weight(file, name):
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    weights[name] *= 1.01
    save_file(weights, file)


def test_runs_are_resumed_with_the_weights_of_their_teacher_only(
    tmp_path, capsys
):
    folder = tmp_path / 'pipeline'
    latent_unet.save(folder, 'KL')
    teacher = latent_teacher(folder, dtype='float32')
    run(tmp_path, 'first', **with_teacher(teacher))
    again = dict(resume=True, load_from=str(tmp_path / 'epoch_1.pth'))

    moved = shutil.copytree(folder, tmp_path / 'moved')
    teacher = latent_teacher(moved, dtype='float32')
    run(tmp_path, 'moved', **with_teacher(teacher, **again))
    assert 'is not checked' not in ''.join(capsys.readouterr())
    teacher = latent_teacher(folder, dtype='bfloat16')
    run(tmp_path, 'cast', **with_teacher(teacher, **again))
    assert 'encoder in torch.bfloat16' in ''.join(capsys.readouterr())

    teacher = latent_teacher(folder, dtype='float32')
    for part, weight in (
        ('vqvae', 'encoder.conv_in.weight'),
        ('unet', 'conv_in.weight'),
    ):
        place = shutil.copytree(moved, tmp_path / part)
        teacher = latent_teacher(place, dtype='float32')
        file = place / part / 'diffusion_pytorch_model.safetensors'
        scale_weight(file, weight)
        named = 'denoiser' if part == 'unet' else 'encoder'
        got = rf'got another one \(model.teacher: {named} in torch.float32'
        with pytest.raises(ValueError, match=got):
            run(tmp_path, part, **with_teacher(teacher, **again))


def test_weights_of_timm_teachers_are_compared(tmp_path):
    file = tmp_path / 'model.safetensors'
    save_model(file, 'convnext')
    settings = with_teacher(timm_teacher(file))
    run(tmp_path, 'first', **settings)
    again = dict(resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    run(tmp_path, 'same', **settings, **again)
    scale_weight(file, 'stem.0.weight')
    with pytest.raises(ValueError, match=r'another one .*: backbone in torch'):
        run(tmp_path, 'other', **settings, **again)


def test_only_weights_that_are_cast_may_have_no_counterpart():
    records = []
    runner = SimpleNamespace(
        model=SimpleNamespace(external_hashes={'a in torch.float32': '1'}),
        logger=SimpleNamespace(warning=records.append),
    )
    check_external_hashes(runner, dict(external_hashes={}))
    check_external_hashes(
        runner, dict(external_hashes={'a in torch.bfloat16': '2'})
    )
    assert len(records) == 2 and 'is not checked' in records[0]
    with pytest.raises(ValueError, match=r'another one \(model.vae: weights'):
        check_external_hashes(
            runner, dict(external_hashes={'model.vae: weights': '1'})
        )
