"""The references are timm's own models, complete, with hooks on layers."""

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ALL_MODELS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from repfusion_mm.models import TimmTeacher
from tests.helpers.timm_models import MODELS, save_model, teacher_config
from tests.helpers.toy import batch, distiller_config

timm = pytest.importorskip('timm')

ZEROS = torch.zeros(2, dtype=torch.long)
MEANS = dict.fromkeys(MODELS, ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
MEANS['siglip'] = [0.5] * 3, [0.5] * 3


def build(**settings):
    return ALL_MODELS.build(teacher_config(**{'dtype': 'float32', **settings}))


def hooked(model, names, images):
    """Run the complete model, and return the outputs of its layers."""
    seen = {}
    modules = dict(model.named_modules())
    for name in names:
        modules[name].register_forward_hook(
            lambda _m, _i, output, name=name: seen.update({name: output})
        )
    with torch.no_grad():
        model(images)
    return [seen[name] for name in names]


def normalized(images, kind):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in MEANS[kind])
    return (images - mean) / std


def to_map(tokens, height, width):
    """Put the last tokens, those of patches, back on their grid."""
    patches = tokens[:, -height * width :]
    return patches.unflatten(1, (height, width)).permute(0, 3, 1, 2)


@pytest.mark.parametrize('size', [(28, 28), (28, 56)], ids=str)
@pytest.mark.parametrize('kind', ['dinov2', 'dinov3', 'siglip'])
def test_maps_are_patch_tokens_of_the_complete_model(tmp_path, kind, size):
    patch = 14 if kind == 'dinov2' else 16
    grid = size[0] // 14, size[1] // 14
    size = grid[0] * patch, grid[1] * patch
    file = tmp_path / 'model.safetensors'
    model = save_model(file, kind, size)
    teacher = build(
        kind=kind, layers=[2, 0], pretrained=str(file), input_size=size
    )
    images = torch.rand(2, 3, *size)
    names = ['blocks.2', 'blocks.0']
    tokens = hooked(model, names, normalized(images, kind))
    feats = teacher(images, ZEROS)
    assert list(feats) == list(teacher.feature_shapes) == names
    assert teacher.image_size == (size[0] if size[0] == size[1] else size)
    for name, expected in zip(names, tokens):
        expected = to_map(expected, *grid)
        assert feats[name].shape[1:] == teacher.feature_shapes[name]
        torch.testing.assert_close(feats[name], expected, rtol=1e-6, atol=0)
    assert not feats['blocks.2'].requires_grad


@pytest.mark.parametrize(
    ('kind', 'layers', 'names'),
    [
        ('resnet', [0, -2], ['act1', 'layer3']),
        ('convnext', ['stages.2', 1], ['stages.2', 'stages.1']),
    ],
)
def test_maps_of_convnets_are_those_of_their_stages(
    tmp_path, kind, layers, names
):
    file = tmp_path / 'model.safetensors'
    model = save_model(file, kind)
    teacher = build(
        kind=kind, layers=layers, pretrained=str(file), input_size=(64, 32)
    )
    images = torch.rand(2, 3, 64, 32)
    expected = hooked(model, names, normalized(images, kind))
    feats = teacher(images, ZEROS)
    assert list(feats) == names
    for name, feat in zip(names, expected):
        torch.testing.assert_close(feats[name], feat, rtol=1e-6, atol=0)


def test_norm_applies_the_final_normalization(tmp_path):
    file = tmp_path / 'model.safetensors'
    model = save_model(file, size=28)
    teacher = build(layers=[3], pretrained=str(file), norm=True)
    images = torch.rand(2, 3, 28, 28)
    (tokens,) = hooked(model, ['norm'], normalized(images, 'dinov2'))
    torch.testing.assert_close(
        teacher(images, ZEROS)['blocks.3'], to_map(tokens, 2, 2),
        rtol=1e-6, atol=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r'norm=True, got .*layer2'):
        build(kind='resnet', norm=True)


def test_the_position_embedding_is_resampled_once(tmp_path):
    """It is resampled in the file's own size, by timm."""
    file = tmp_path / 'model.safetensors'
    save_model(file, size=56)
    name, arguments, _ = MODELS['dinov2']
    expected = timm.create_model(
        name, pretrained=True, img_size=(28, 42), **arguments,
        pretrained_cfg_overlay=dict(file=str(file)),
    )  # fmt: skip
    teacher = build(pretrained=str(file), input_size=(28, 42))
    assert teacher.backbone.pos_embed.shape == (1, 6, 32)
    assert teacher.backbone.pos_embed.equal(expected.pos_embed)


def test_images_are_resized(tmp_path):
    teacher = build()
    images = torch.rand(2, 3, 40, 24)
    resized = F.interpolate(images, (28, 28), mode='bilinear', antialias=True)
    ours, expected = (teacher(x, ZEROS)['blocks.2'] for x in (images, resized))
    assert ours.equal(expected)


def test_without_input_size_images_have_the_model_s_size():
    teacher = build(kind='resnet', input_size=None)
    assert teacher.image_size == 224
    with pytest.raises(ValueError, match=r'teacher\.input_size=224'):
        teacher(torch.rand(2, 3, 32, 32), ZEROS)


@pytest.mark.parametrize('kind', MODELS)
def test_later_weights_are_released(kind):
    name, arguments, _ = MODELS[kind]
    complete = timm.create_model(name, **arguments)
    teacher = build(kind=kind, layers=[1])
    kept = dict(teacher.backbone.named_parameters())
    layers = ('blocks', 'stages', 'layer')
    later = [
        key
        for key in kept
        if key.startswith(('head', 'fc', 'attn_pool', 'norm.'))
        or (key.startswith(layers) and key.split('.')[1] in ('2', '3'))
        or key.startswith(('layer2', 'layer3', 'layer4'))
    ]
    assert not later
    assert kept.keys() < dict(complete.named_parameters()).keys()


def test_teacher_stays_frozen():
    teacher = build().train()
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert copy.deepcopy(teacher) is teacher


@pytest.mark.parametrize('kind', ['dinov2', 'dinov3', 'convnext'])
def test_bfloat16_is_close_to_float32(tmp_path, kind):
    file = tmp_path / 'model.safetensors'
    save_model(file, kind, MODELS[kind][2] if kind != 'convnext' else None)
    images = torch.rand(2, 3, 32, 32)
    exact, rounded = (
        next(iter(build(
            kind=kind, pretrained=str(file), dtype=dtype, channels_last=True
        )(images, ZEROS).values()))
        for dtype in ('float32', 'bfloat16')
    )  # fmt: skip
    assert rounded.dtype == torch.float32
    assert not rounded.equal(exact)
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_the_dtype_survives_moves_and_casts():
    teacher = build(dtype='bfloat16').double()
    assert {p.dtype for p in teacher.parameters()} == {torch.bfloat16}
    assert teacher._mean.dtype == torch.float32


def test_rotary_embeddings_stay_in_float32():
    buffers = dict(build(kind='dinov3', dtype='bfloat16').named_buffers())
    assert {b.dtype for b in buffers.values()} == {torch.float32}
    assert buffers


class RecordDevices(TorchDispatchMode):
    """Record the devices of all tensors that operations return."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **kwargs or {})
        for tensor in tree_leaves(output):
            if torch.is_tensor(tensor):
                self.devices.add(tensor.device.type)
        return output


@pytest.mark.parametrize('kind', MODELS)
def test_a_pass_copies_nothing_from_the_cpu(kind):
    """Such a copy synchronizes with a GPU; the test runs on meta tensors."""
    with torch.device('meta'):
        teacher = build(kind=kind)
        images, zeros = torch.rand(2, 3, 40, 24), torch.zeros(2).long()
    with RecordDevices() as recorder:
        teacher(images, zeros)
    assert recorder.devices == {'meta'}


def test_a_student_learns_its_features():
    model = ALL_MODELS.build(distiller_config(
        teacher=teacher_config(layers=[1, 2]),
        student_indices=(-1, -1),
        policy=dict(type='repfusion_mm.FixedTimestepPolicy'),
        decoder=None,
        input_size=16,
    ))  # fmt: skip
    losses = model(**model.data_preprocessor(batch(), True), mode='loss')
    losses['loss_distill'].backward()
    assert losses['timestep_mean'] == 0
    assert model.student.conv1.weight.grad.abs().sum() > 0
    assert not any(key.startswith('teacher') for key in model.state_dict())


def test_fingerprints_differ_where_features_do(tmp_path):
    file = tmp_path / 'model.safetensors'
    save_model(file, size=28)
    settings = dict(pretrained=str(file))
    same, again = (build(**settings).fingerprint() for _ in range(2))
    assert same == again
    others = [
        dict(settings, **change)
        for change in (
            dict(layers=[1]), dict(input_size=56), dict(norm=True),
            dict(dtype='bfloat16'), dict(pretrained=False),
            dict(model_args=dict(MODELS['dinov2'][1], num_heads=4)),
        )
    ]  # fmt: skip
    for other in others:
        assert build(**other).fingerprint() != same


@pytest.mark.compile
@pytest.mark.slow
def test_the_compiled_pass_returns_the_same(tmp_path, fresh_compiler, log):
    kind = 'dinov3'
    file = tmp_path / 'model.safetensors'
    save_model(file, kind, MODELS[kind][2])
    plain, compiled = (
        build(kind=kind, layers=[2, 0], pretrained=str(file), compile=compile)
        for compile in (False, True)
    )
    images = torch.rand(2, 3, 32, 32)
    expected, feats = (t(images, ZEROS) for t in (plain, compiled))
    assert list(feats) == ['blocks.2', 'blocks.0']
    for name, feat in feats.items():
        torch.testing.assert_close(feat, expected[name], rtol=1e-4, atol=1e-4)
    assert 'torch.compile failed' not in log.text


def test_random_weights_are_logged(log):
    build()
    assert any(
        r.levelno == logging.WARNING and 'RANDOM weights' in r.message
        for r in log.records
    )


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(layers=[4]), r'4 layers .* -4 to 3 or .blocks.0. .* got 4'),
        (dict(layers=['block.0']), "did you mean 'blocks.0'"),
        (dict(layers=[True]), 'got True'),
        (dict(layers=[3, -1]), r'different layers.*\[3, -1\]'),
        (dict(layers=[]), 'one or more'),
        (dict(layers='blocks.3'), 'to be a list'),
        (dict(layers=1), r'set \[1\] for one'),
        (dict(input_size=32), 'multiple of 14.*got 32; set it to 28 or 42'),
        (dict(input_size=[28, 13]), 'got 13; set it to 14'),
        (dict(input_size=[28]), 'height and width'),
        (dict(input_size=0), 'input_size to be an integer of 1'),
        (dict(dtype='half'), 'dtype'),
        (dict(norm=1.5), r'teacher\.norm'),
        (dict(model_args=dict(depht=3)), 'model_args.*depht'),
        (dict(model_args='{depth=3'), r'model_args\.NAME=VALUE'),
        (dict(model_args=dict(img_size=28)), 'model.teacher.input_size'),
        (
            dict(model='vit_base_patch14_reg4_dinov3'),
            'did you mean .*vit_base_patch16_dinov3',
        ),
        (
            dict(model='vit_base_patch14_reg4_dinov2.lvd143m'),
            "did you mean 'vit_base_patch14_reg4_dinov2.lvd142m'",
        ),
        (dict(model='facebook/dinov2-base'), "mean 'vit_base_.*dinov2"),
        (dict(model='timm/resnet18'), "did you mean 'resnet18"),
    ],
)
def test_wrong_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_it_is_exported():
    assert TimmTeacher is ALL_MODELS.get('repfusion_mm.TimmTeacher')
