import copy

import diffusers
import pytest
import torch
from mmengine.utils import digit_version

from repfusion_mm.models import DiffusersTeacher
from tests.helpers.toy import (
    DENOISER,
    LAYER,
    labeled_samples,
)

IMAGES = torch.linspace(0, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16)
TIMESTEPS = torch.tensor([0, 10, 500, 999])
#: Calls of one activation, which all blocks share before diffusers 0.33.
SHARED = digit_version(diffusers.__version__) < digit_version('0.33')
ACTIVATIONS = 25 if SHARED else 3


def test_early_exit_does_not_change_features(teacher_folder):
    layers = ['down_blocks.1.resnets.0.conv1', LAYER]
    early = DiffusersTeacher(layers, teacher_folder)
    full = DiffusersTeacher(layers, teacher_folder, early_stop=False)
    ours, theirs = (t(IMAGES, TIMESTEPS) for t in (early, full))
    assert list(ours) == layers
    for layer in layers:
        assert torch.equal(ours[layer], theirs[layer])


def test_features_are_those_of_the_denoiser_on_minus_one_to_one(
    teacher_folder,
):
    denoiser = diffusers.UNet2DModel.from_pretrained(teacher_folder).eval()
    seen = []
    denoiser.mid_block.resnets[1].conv2.register_forward_hook(
        lambda _m, _i, output: seen.append(output)
    )
    with torch.no_grad():
        denoiser(IMAGES * 2 - 1, TIMESTEPS)
    feats = DiffusersTeacher([LAYER], teacher_folder, dtype='float32')(
        IMAGES, TIMESTEPS
    )
    assert torch.equal(feats[LAYER], seen[0])


def test_later_weights_are_released(teacher_folder):
    early = DiffusersTeacher([LAYER], teacher_folder)
    full = DiffusersTeacher([LAYER], teacher_folder, early_stop=False)
    sizes = [
        sum(p.numel() for p in teacher.parameters())
        for teacher in (early, full)
    ]
    assert sizes[0] < 0.6 * sizes[1]
    names = [name for name, _ in early.named_parameters()]
    assert not any('up_blocks' in name for name in names)


def test_teacher_stays_frozen(teacher_folder):
    teacher = DiffusersTeacher([LAYER], teacher_folder).train()
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    images = IMAGES.clone().requires_grad_()
    assert not teacher(images, TIMESTEPS)[LAYER].requires_grad
    assert copy.deepcopy(teacher) is teacher


def test_hooks_are_removed_after_a_call(teacher_folder):
    """The reference implementation never removes them."""
    teacher = DiffusersTeacher([LAYER], teacher_folder)
    teacher(IMAGES, TIMESTEPS)
    with pytest.raises(RuntimeError):
        teacher(IMAGES[:, :2], TIMESTEPS)
    for module in teacher.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_noised_input_follows_the_scheduler(teacher_folder):
    clean = DiffusersTeacher([LAYER], teacher_folder, dtype='float32')
    noised = DiffusersTeacher(
        [LAYER], teacher_folder, dtype='float32', input_mode='noised'
    )
    torch.manual_seed(1)
    got = noised(IMAGES, TIMESTEPS)[LAYER]
    torch.manual_seed(1)
    alphas = clean.scheduler.alphas_cumprod[TIMESTEPS].view(4, 1, 1, 1)
    x_t = alphas.sqrt() * (IMAGES * 2 - 1)
    x_t = x_t + (1 - alphas).sqrt() * torch.randn(4, 3, 16, 16)
    expected = clean((x_t + 1) / 2, TIMESTEPS)[LAYER]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_images_are_resized_to_input_size(teacher_folder):
    teacher = DiffusersTeacher([LAYER], teacher_folder, input_size=16)
    feats = teacher(torch.rand(2, 3, 40, 24), torch.tensor([1, 2]))
    assert feats[LAYER].shape == (2, *teacher.feature_shapes[LAYER])


def test_images_of_another_size_are_refused(teacher_folder):
    teacher = DiffusersTeacher([LAYER], teacher_folder)
    with pytest.raises(ValueError, match=r'teacher\.input_size=16'):
        teacher(torch.rand(2, 3, 32, 32), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ('layer', 'message'),
    [
        (
            'mid_block.resnet.1.conv2',
            "did you mean 'mid_block.resnets.1.conv2'",
        ),
        ('mid_block.resnets.1.nonlinearity', f'got {ACTIVATIONS} runs'),
        ('time_embedding', r'got torch.Size\(\[1, 32\]\); layers that do'),
    ],
)
def test_layers_without_a_map_are_refused(teacher_folder, layer, message):
    """The reference implementation returns None for an unknown layer, and one
    of several outputs for a layer that runs several times.
    """
    with pytest.raises(ValueError, match=message):
        DiffusersTeacher([layer], teacher_folder)


def class_conditional(**arguments):
    torch.manual_seed(0)
    config = {**DENOISER, 'num_class_embeds': 3}
    return DiffusersTeacher([LAYER], config=config, **arguments)


def test_labels_are_not_used_by_default():
    """The reference implementation gives the true label to the teacher."""
    default, labeled = (
        class_conditional(class_signal=kind) for kind in ('none', 'label')
    )
    # Without a class nothing is added to the time embedding.
    labeled.denoiser.class_embedding.weight[1] = 0
    labels = labeled_samples([1] * 4)
    expected = labeled(IMAGES, TIMESTEPS, labels)[LAYER]
    assert torch.equal(default(IMAGES, TIMESTEPS)[LAYER], expected)
    assert torch.equal(default(IMAGES, TIMESTEPS, labels)[LAYER], expected)
    other = labeled(IMAGES, TIMESTEPS, labeled_samples([2] * 4))[LAYER]
    assert not torch.allclose(other, expected)


def test_a_random_class_is_drawn_for_each_image():
    teacher = class_conditional(class_signal='random')
    images, steps = IMAGES[:1].expand(64, -1, -1, -1), torch.zeros(64).long()
    feats = teacher(images, steps)[LAYER].flatten(1)
    distinct = {round(feat.double().sum().item(), 2) for feat in feats}
    assert len(distinct) == 3


@pytest.mark.parametrize(
    'labels', [None, [None] * 4, [0, 1, 2, -1], [0, 1, 2, 3]]
)
def test_missing_labels_and_unknown_classes_are_refused(labels):
    teacher = class_conditional(class_signal='label')
    samples = labels and labeled_samples(labels)
    with pytest.raises(ValueError, match=r'a label in \[0, 2\] for every'):
        teacher(IMAGES, TIMESTEPS, samples)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(layers=LAYER), 'list of distinct module paths'),
        (dict(layers=[]), 'list of distinct module paths'),
        (dict(layers=None), 'got None; choose'),
        (dict(layers=[11]), r'got \[11\]; choose'),
        (dict(layers=[LAYER, LAYER]), 'distinct module paths'),
        (dict(input_mode='dirty'), 'input_mode to be one of'),
        (dict(dtype='half'), 'dtype to be one of'),
        (dict(compile='yes'), 'compile to be one of'),
        (dict(config=None), 'exactly one of'),
        (dict(config={**DENOISER, 'in_channels': 1}), 'got in_channels 1'),
        (dict(config={**DENOISER, 'type': 'Linear'}), "got 'Linear'"),
        (dict(class_signal='random'), 'got one without classes'),
        (dict(class_signal='yes'), 'class_signal to be one of'),
        (dict(config={**DENOISER, 'sample_size': None}), 'input_size'),
        (dict(scheduler=dict(type='SGD')), "got 'SGD'"),
        (dict(input_size=17), '17 x 17.*set .*input_size to a multiple of 2'),
        (
            dict(config={**DENOISER, 'class_embed_type': 'timestep'}),
            'should be provided.*; choose another teacher$',
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    arguments = {'layers': [LAYER], 'config': DENOISER, **arguments}
    with pytest.raises(ValueError, match=message):
        DiffusersTeacher(**arguments)
