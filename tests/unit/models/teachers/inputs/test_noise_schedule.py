"""One rule of noise for every scheduler of the DDPM family."""

import importlib.util
import json

import diffusers
import pytest
import torch
from diffusers import SchedulerMixin

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.inputs.noise_schedule import (
    add_noise,
    ddpm_levels,
    read_alphas_cumprod,
    read_noise_levels,
)
from repfusion_mm.models.teachers.loading.scheduler import (
    build_scheduler,
    load_scheduler,
)
from tests.helpers.toy import DENOISER, LAYER, SCHEDULER, save_teacher

#: Families whose denoisers are not trained on x_t of DDPM, or are not given t.
OTHERS = (
    'Amused', 'BlockRefinement', 'CMStochastic', 'Consistency', 'Cosine',
    'DDPMWuerstchen', 'Discrete', 'EDM', 'EntropyBound', 'Flow', 'Helios',
    'IPNDM', 'KarrasVe', 'LTX', 'MiniMax', 'Piflow', 'RFD4', 'SCM', 'ScoreSde',
    'VQ',
)  # fmt: skip
SCHEDULES = (
    dict(),
    dict(beta_schedule='scaled_linear', beta_start=0.00085, beta_end=0.012),
    dict(beta_schedule='squaredcos_cap_v2'),
    dict(trained_betas=torch.linspace(0.01, 0.3, 40).tolist(),
         num_train_timesteps=40),
    dict(num_train_timesteps=250, beta_end=0.08),
    dict(rescale_betas_zero_snr=True),
    dict(prediction_type='v_prediction'),
    dict(use_karras_sigmas=True),
    dict(timestep_spacing='leading', steps_offset=1),
    dict(timestep_spacing='trailing'),
)  # fmt: skip


def schedulers():
    """Return the scheduler classes of diffusers that can be built here."""
    names = [name for name in dir(diffusers) if name.endswith('Scheduler')]
    classes = [getattr(diffusers, name) for name in names]
    found = []
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, SchedulerMixin)):
            continue
        try:
            cls()
        except (TypeError, ValueError):  # arguments are required
            continue
        found.append(cls)
    return found


def reference_betas(given):
    """Compute betas in float64, independently of diffusers."""
    steps = given['num_train_timesteps']
    if given.get('trained_betas') is not None:
        return torch.tensor(given['trained_betas'], dtype=torch.float64)
    name = given.get('beta_schedule', 'linear')
    if name == 'squaredcos_cap_v2':
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        bars = ((t + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
        return (1 - bars[1:] / bars[:-1]).clamp(max=0.999)
    start, end = given['beta_start'], given['beta_end']
    if name == 'linear':
        return torch.linspace(start, end, steps, dtype=torch.float64)
    roots = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64)
    return roots**2


@pytest.mark.parametrize('cls', schedulers(), ids=lambda cls: cls.__name__)
def test_noise_is_that_of_ddpm_or_the_scheduler_is_refused(cls):
    if cls.__name__.startswith(OTHERS):
        with pytest.raises(ValueError, match=f'got {cls.__name__} with'):
            read_alphas_cumprod(cls())
        return
    defaults = dict(cls().config)
    tried = 0
    for arguments in SCHEDULES:
        if not set(arguments) <= set(defaults) or 'CogVideoX' in cls.__name__:
            continue
        if 'KDPM2' in cls.__name__:  # slow to build with 1,000 timesteps
            arguments = {'num_train_timesteps': 100, **arguments}
        try:
            scheduler = build_scheduler(dict(type=cls.__name__, **arguments))
        except (NotImplementedError, TypeError, ValueError):
            continue  # this class has no such choice
        tried += 1
        alphas = read_alphas_cumprod(scheduler)
        a = (1 - reference_betas({**defaults, **arguments})).cumprod(0)
        if 'UnCLIP' in cls.__name__:
            a = scheduler.alphas_cumprod.double()
        if 'rescale_betas_zero_snr' in arguments:
            root = a.sqrt()
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            a = root**2
        assert len(alphas) == len(a)
        t = torch.tensor([0, 1, len(a) // 2, len(a) - 2, len(a) - 1])
        clean = torch.rand(5, 3, 4, 4).double() * 2 - 1
        noise = torch.randn(5, 3, 4, 4).double()
        at = a[t].view(-1, 1, 1, 1)
        expected = at.sqrt() * clean + (1 - at).clamp(min=0).sqrt() * noise
        got = add_noise(clean.float(), noise.float(), t, ddpm_levels(alphas))
        assert (got - expected).abs().max() < 1e-3, arguments
        # Exactly the rule, with the values of the scheduler.
        at = alphas.double()[t].view(-1, 1, 1, 1)
        expected = at.sqrt() * clean + (1 - at).sqrt() * noise
        assert (got - expected).abs().max() < 1e-6, arguments
    assert tried or 'CogVideoX' in cls.__name__


@pytest.mark.parametrize(
    ('kind', 'arguments', 'fault'),
    [
        ('DPMSolverMultistep', dict(use_flow_sigmas=True,
         prediction_type='flow_prediction'), 'flow matching'),
        ('UniPCMultistep', dict(use_flow_sigmas=True), 'flow matching'),
        ('EulerDiscrete', dict(timestep_type='continuous',
         prediction_type='v_prediction'), 'log sigma'),
        ('DDPM', dict(trained_betas=[0.1] * 7), '7 betas for 1000'),
        ('DDPM', dict(trained_betas=[-0.5] * 1000), 'outside'),
        ('DDPM', dict(beta_start=0.0, beta_end=0.0), 'no noise'),
        ('DDPM', dict(prediction_type='flow_prediction'), 'flow matching'),
    ],
)  # fmt: skip
def test_other_meanings_of_a_known_class_are_refused(kind, arguments, fault):
    name = f'{kind}Scheduler'
    with pytest.raises(ValueError, match=f'got {name} with .*{fault}'):
        DiffusersTeacher(
            [LAYER], config=DENOISER, scheduler=dict(type=name, **arguments)
        )


def test_unknown_predictions_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'v_prediction'.*got 'v-"):
        DiffusersTeacher(
            [LAYER],
            config=DENOISER,
            scheduler={**SCHEDULER, 'prediction_type': 'v-prediction'},
        )


def test_settings_of_noise_that_is_not_added_are_logged(log):
    schedule = dict(type='DDPMScheduler', num_train_timesteps=7)
    teacher = DiffusersTeacher([LAYER], config=DENOISER, scheduler=schedule)
    assert teacher.num_timesteps == 7
    schedule['beta_end'] = 0.5
    noised = dict(config=DENOISER, scheduler=schedule, input_mode='noised')
    DiffusersTeacher([LAYER], **noised)
    assert 'not used' not in log.text
    DiffusersTeacher([LAYER], config=DENOISER, scheduler=schedule)
    assert "not used are ['beta_end'] of model.teacher.scheduler" in log.text


def test_the_class_in_the_folder_gives_the_betas(tmp_path):
    """Defaults differ by class: a file may leave them out."""
    folder = save_teacher(tmp_path / 'teacher')
    file = tmp_path / 'teacher/scheduler_config.json'
    file.write_text('{"_class_name": "HeunDiscreteScheduler"}')
    got = DiffusersTeacher([LAYER], folder).scheduler.alphas_cumprod
    assert torch.equal(got, diffusers.HeunDiscreteScheduler().alphas_cumprod)
    file.write_text('{"_class_name": "EDMEulerScheduler"}')
    with pytest.raises(ValueError, match='got EDMEulerScheduler'):
        DiffusersTeacher([LAYER], folder)
    file.write_text('{"num_train_timesteps": 1000}')
    with pytest.raises(ValueError, match='_class_name'):
        DiffusersTeacher([LAYER], folder)
    file.write_text('{"_class_name": "MyScheduler"}')
    with pytest.raises(ValueError, match="got 'MyScheduler'"):
        DiffusersTeacher([LAYER], folder)


@pytest.mark.skipif(
    importlib.util.find_spec('torchsde') is not None,
    reason='torchsde is installed',
)
def test_a_class_that_needs_another_package_names_it():
    with pytest.raises(ImportError, match='torchsde'):
        build_scheduler(dict(type='DPMSolverSDEScheduler'))


def flow_schedulers():
    """Return schedulers of flow matching."""
    euler = diffusers.FlowMatchEulerDiscreteScheduler
    for cls, arguments in (
        (euler, {}),
        (euler, dict(shift=3.0)),
        (euler, dict(use_dynamic_shifting=True)),
        (diffusers.FlowMatchHeunDiscreteScheduler, dict(shift=3.0)),
        (diffusers.DPMSolverMultistepScheduler,
         dict(use_flow_sigmas=True, flow_shift=3.0,
              prediction_type='flow_prediction')),
        (diffusers.UniPCMultistepScheduler, dict(use_flow_sigmas=True)),
    ):  # fmt: skip
        yield pytest.param(cls(**arguments), id=f'{cls.__name__}{arguments}')


@pytest.mark.parametrize('scheduler', flow_schedulers())
@pytest.mark.parametrize('t', [0, 261, 999])
def test_noise_of_flow_matching_is_that_of_the_scheduler(scheduler, t):
    levels = read_noise_levels(scheduler, flow_matching=True)
    # A schedule of one step at this level.
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    timesteps = torch.tensor([t])
    ours = add_noise(clean, noise, timesteps, levels)
    scheduler.timesteps = timesteps.float()
    scheduler.sigmas = timesteps / 1000
    if hasattr(scheduler, 'scale_noise'):
        theirs = scheduler.scale_noise(clean, scheduler.timesteps, noise)
    else:
        theirs = scheduler.add_noise(clean, noise, scheduler.timesteps)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('shift', [1.0, 3.0])
def test_the_timestep_input_of_flow_matching_is_the_level(shift):
    """However a sampling is shifted, it visits sigma with t = 1000 sigma."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(20)
    levels = read_noise_levels(scheduler, flow_matching=True)
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas):
        below = int(timestep.clamp(max=998))
        share = timestep - below
        ours = levels.noise[below].lerp(levels.noise[below + 1], share)
        torch.testing.assert_close(ours, sigma)


@pytest.mark.parametrize(
    ('scheduler', 'got'),
    [
        (dict(type='DDPMScheduler'), 'got DDPMScheduler; set'),
        (dict(type='SCMScheduler'), 'got SCMScheduler; set'),
        (dict(type='DPMSolverMultistepScheduler',
              prediction_type='flow_prediction'),
         'got DPMSolverMultistepScheduler; set'),
        (dict(type='FlowMatchEulerDiscreteScheduler', invert_sigmas=True),
         'with invert_sigmas=True; set'),
        (dict(type='FlowMatchEulerDiscreteScheduler',
              num_train_timesteps=500),
         'with num_train_timesteps=500 instead of 1000; set'),
    ],
)  # fmt: skip
def test_schedulers_that_are_not_of_flow_matching_are_refused(scheduler, got):
    with pytest.raises(ValueError, match=f'of flow matching.*{got}') as error:
        read_noise_levels(build_scheduler(scheduler), flow_matching=True)
    assert "scheduler=dict(type='FlowMatchEuler" in str(error.value)


def test_flow_matching_is_refused_for_denoisers_of_ddpm():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match='of the DDPM family') as error:
        read_noise_levels(scheduler)
    assert "model.teacher.scheduler=dict(type='DDPMScheduler'" in str(
        error.value
    )


def test_defaults_of_a_noise_schedule_are_a_warning(tmp_path, log):
    save_teacher(tmp_path)
    load_scheduler(str(tmp_path))
    assert not log.records
    file = tmp_path / 'scheduler_config.json'
    config = json.loads(file.read_text())
    del config['beta_end']
    file.write_text(json.dumps(config))
    load_scheduler(str(tmp_path))
    assert "no ['beta_end'] in the scheduler_config.json" in log.text
