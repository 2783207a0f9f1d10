import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmpretrain.models import ResNet
from safetensors.torch import save_file

from repfusion_mm.engine.checkpoint import StrictPretrained
from repfusion_mm.engine.checkpoint.compare import conv_strides
from repfusion_mm.engine.checkpoint.initializers import (
    detach_init_cfgs,
    run_init_cfgs,
)
from tests.helpers.canary import Canary

BACKBONE = dict(
    type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8
)


def build(checkpoint, _scope_='repfusion_mm', backbone=BACKBONE, **kwargs):
    init_cfg = dict(
        type='Pretrained', _scope_=_scope_, checkpoint=checkpoint, **kwargs
    )
    if _scope_ is None:
        init_cfg.pop('_scope_')
    net = MODELS.build(ConfigDict(backbone, init_cfg=init_cfg))
    net.init_weights()
    return net


def initialize(net):
    """Initialize as a run with ``StrictLoadHook``."""
    init_cfgs = [getattr(i, 'init_cfg', None) for i in net.modules()]
    detached = detach_init_cfgs(net)
    net.init_weights()
    run_init_cfgs(detached)
    assert [getattr(i, 'init_cfg', None) for i in net.modules()] == init_cfgs
    return net


@pytest.fixture
def weights():
    torch.manual_seed(7)
    net = MODELS.build(dict(BACKBONE))
    for p in net.parameters():
        torch.nn.init.normal_(p)
    return net.state_dict()


def assert_loaded(net, weights):
    for key, value in net.state_dict().items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize('scope', ['repfusion_mm', None])
def test_exported_files_load_here_and_with_the_stock_initializer(
    tmp_path, weights, scope
):
    path = str(tmp_path / 'student.pth')
    torch.save(dict(state_dict=weights, meta=dict(epoch=1)), path)
    assert_loaded(build(path, scope), weights)


@pytest.mark.parametrize('scope', ['repfusion_mm', None])
@pytest.mark.parametrize(
    'backbone', ['mmseg.ResNet', 'mmpose.ResNet', 'mmdet.ResNet']
)
def test_one_file_serves_every_project(tmp_path, weights, backbone, scope):
    path = str(tmp_path / 'student.pth')
    torch.save(dict(state_dict=weights), path)
    net = build(path, scope, backbone={**BACKBONE, 'type': backbone})
    assert_loaded(net, weights)


def test_deep_stem_of_mmseg_is_refused(tmp_path, weights):
    path = str(tmp_path / 'student.pth')
    torch.save(dict(state_dict=weights), path)
    backbone = {**BACKBONE, 'type': 'mmseg.ResNetV1c'}
    with pytest.raises(ValueError, match=r'distilled as mmseg\.ResNetV1c'):
        build(path, backbone=backbone)


@pytest.mark.parametrize('prefix', ['', 'student.', 'backbone.'])
def test_backbone_is_found_in_checkpoints_of_any_kind(
    tmp_path, weights, prefix, caplog
):
    path = str(tmp_path / 'epoch_1.pth')
    content = {prefix + key: value for key, value in weights.items()}
    if prefix:
        content['head.fc.weight'] = torch.zeros(2)
    torch.save(dict(state_dict=content), path)
    assert_loaded(build(path), weights)


def test_all_other_initializers_run_before(tmp_path, weights):
    """An initializer under another name ran first and was overwritten."""
    path = str(tmp_path / 'student.pth')
    torch.save(weights, path)
    net = MODELS.build(
        dict(
            BACKBONE,
            init_cfg=[
                dict(
                    type='Pretrained', _scope_='repfusion_mm', checkpoint=path
                ),
                dict(type='Constant', layer='Conv2d', val=5.0),
            ],
        )
    )
    net.init_weights()
    assert torch.equal(net.conv1.weight, weights['conv1.weight'])


SWIN_SEG = dict(
    type='mmseg.SwinTransformer', embed_dims=8, depths=(1, 1),
    num_heads=(1, 1), strides=(4, 2), out_indices=(0, 1), window_size=2,
    pretrain_img_size=16,
)  # fmt: skip


@pytest.mark.parametrize(
    'init_cfg',
    [
        dict(type='repfusion_mm.Pretrained'),
        dict(type=StrictPretrained),
        [dict(type='Pretrained', _scope_='repfusion_mm')],
    ],
)
@pytest.mark.parametrize('library', ['mmpretrain', 'mmpose', 'mmdet'])
def test_weights_that_the_backbone_changes_are_loaded_afterwards(
    init_cfg, library, tmp_path, weights
):
    path = str(tmp_path / 'student.pth')
    torch.save(weights, path)
    for cfg in init_cfg if isinstance(init_cfg, list) else [init_cfg]:
        cfg['checkpoint'] = path
    backbone = dict(BACKBONE, type=f'{library}.ResNet', init_cfg=init_cfg)
    assert_loaded(initialize(MODELS.build(backbone)), weights)


@pytest.mark.parametrize(
    'backbone',
    [
        SWIN_SEG,
        dict(SWIN_SEG, type='mmdet.SwinTransformer'),
        dict(
            SWIN_SEG, type='mmpose.SwinTransformer', depths=(1,),
            num_heads=(1,), strides=(4,), out_indices=(0,),
        ),
        dict(
            type='mmseg.VisionTransformer', img_size=(16, 16), patch_size=4,
            embed_dims=8, num_layers=1, num_heads=1, out_indices=(0,),
        ),
    ],
)  # fmt: skip
def test_backbones_that_read_init_cfg_themselves_are_loaded_strictly(
    backbone, tmp_path
):
    path = str(tmp_path / 'student.pth')
    state = MODELS.build(backbone).state_dict()
    torch.save(state, path)
    init_cfg = dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=path)
    config = ConfigDict(backbone, init_cfg=init_cfg)
    assert_loaded(initialize(MODELS.build(config)), state)
    name = next(
        key for key in state if key.endswith(('qkv.weight', 'in_proj_weight'))
    )
    del state[name]
    torch.save(state, path)
    with pytest.raises(ValueError, match='not in the checkpoint') as error:
        initialize(MODELS.build(config))
    assert 'remove from init_cfg _scope_' in str(error.value)


@pytest.mark.parametrize(
    ('prefix', 'kwargs'),
    [('', {}), ('student.', {}), ('student.', dict(prefix='student.'))],
)
def test_backbones_that_pass_init_cfg_on_to_their_parts_load(
    tmp_path, prefix, kwargs
):
    backbone = dict(type='mmpretrain.RepVGG', arch='A0', base_channels=4)
    state = MODELS.build(backbone).state_dict()
    path = str(tmp_path / 'student.pth')
    content = {f'{prefix}{k}': v for k, v in state.items()}
    if prefix:
        content['connectors.0.weight'] = torch.zeros(2)
    torch.save(content, path)
    assert_loaded(build(path, backbone=backbone, **kwargs), state)
    init_cfg = dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=path)
    net = MODELS.build(dict(backbone, init_cfg=dict(init_cfg, **kwargs)))
    assert_loaded(initialize(net), state)


def test_layers_that_an_override_initializes_are_left(tmp_path, weights):
    path = str(tmp_path / 'student.pth')
    torch.save(weights, path)
    net = build(
        path, override=dict(name='layer4', type='Constant', val=2, layer=None)
    )
    assert net.layer4[0].conv1.weight.eq(2).all()
    assert torch.equal(net.conv1.weight, weights['conv1.weight'])


def test_another_stem_is_an_error(tmp_path):
    """In the reference implementation another stem stays random, with a log.

    Distilled with a 3x3 stem, finetuned with a 7x7 one.
    """
    cifar = dict(BACKBONE, type='mmpretrain.ResNet_CIFAR')
    path = str(tmp_path / 'student.pth')
    torch.save(MODELS.build(cifar).state_dict(), path)
    with pytest.raises(ValueError) as error:
        build(path)
    assert 'conv1.weight: expected (8, 3, 7, 7), got (8, 3, 3, 3)' in str(
        error.value
    )
    assert 'fit all 120 tensors of ResNet, got 1 mismatches' in str(
        error.value
    )


def test_missing_tensors_are_listed_unless_allowed(tmp_path, weights):
    kept = {k: v for k, v in weights.items() if not k.startswith('layer4.')}
    path = str(tmp_path / 'student.pth')
    torch.save(kept, path)
    with pytest.raises(ValueError, match=r'layer4\.0\.conv1\.weight: not in'):
        build(path)
    net = build(path, allow_missing=['layer4.*'])
    assert torch.equal(
        net.layer3[0].conv1.weight, kept['layer3.0.conv1.weight']
    )


def test_checkpoint_of_a_deeper_student_is_refused(tmp_path):
    """Its first blocks would fit, and the others would be unused."""
    path = str(tmp_path / 'student.pth')
    deeper = MODELS.build(dict(BACKBONE, depth=34)).state_dict()
    torch.save(deeper, path)
    with pytest.raises(ValueError, match=r'layer1\.2\.conv1\.weight: only in'):
        build(path)
    net = build(path, allow_unused=['layer*'])
    assert torch.equal(net.conv1.weight, deeper['conv1.weight'])


def export(path, net):
    content = dict(
        state_dict=net.state_dict(),
        meta=dict(strides=conv_strides(net), student=type(net).__name__),
    )
    torch.save(content, path)


@pytest.mark.parametrize(
    ('distilled', 'finetuned'),
    [
        ('mmpretrain.MobileNetV2', 'repfusion_mm.MobileNetV2_CIFAR'),
        ('repfusion_mm.MobileNetV2_CIFAR', 'mmpretrain.MobileNetV2'),
    ],
)
def test_another_stride_of_the_stem_is_an_error(
    tmp_path, distilled, finetuned
):
    """Shapes do not show the stride of the stem."""
    path = str(tmp_path / 'student.pth')
    export(path, MODELS.build(dict(type=distilled)))
    with pytest.raises(
        ValueError, match=r'conv1\.conv: distilled with stride'
    ):
        build(path, backbone=dict(type=finetuned))
    build(path, backbone=dict(type=distilled))


def test_other_strides_of_later_stages_are_logged(tmp_path, log):
    """Segmentation networks dilate them."""
    path = str(tmp_path / 'student.pth')
    export(path, MODELS.build(BACKBONE))
    dilated = dict(BACKBONE, strides=(1, 2, 2, 1))
    build(path, backbone=dilated)
    assert 'outputs are not compared with those of the student' in log.text
    assert "student.pth (strides differ: ['layer4.0.conv1'" in log.text
    log.clear()
    build(path)
    assert 'strides differ' not in log.text


def test_names_of_a_wrong_prefix_are_refused(tmp_path, weights):
    path = str(tmp_path / 'student.pth')
    torch.save(weights, path)
    for allowed in ((), ['*']):
        with pytest.raises(
            ValueError, match=r"start with 'backbone\.' .*prefix out"
        ):
            build(path, prefix='backbone.', allow_missing=allowed)
    with pytest.raises(ValueError, match='got no tensor of its names'):
        build(path, prefix='layer1.', allow_missing=['*'], allow_unused=['*'])


def test_arguments_of_the_stock_initializer_are_accepted(tmp_path, weights):
    path = str(tmp_path / 'epoch_1.pth')
    torch.save({f'student.{k}': v for k, v in weights.items()}, path)
    net = build(path, prefix='student', map_location='cpu')
    assert_loaded(net, weights)


@pytest.mark.parametrize('checkpoint', ['', None])
def test_empty_path_is_refused(checkpoint):
    with pytest.raises(ValueError, match='expected the path of a checkpoint'):
        build(checkpoint)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'student\.pth'):
        build(str(tmp_path / 'nowhere.pth'))


def test_files_other_than_checkpoints_are_refused(tmp_path):
    path = tmp_path / 'student.pth'
    path.write_bytes(b'not a checkpoint')
    with pytest.raises(ValueError, match='cannot be read safely'):
        build(str(path))
    torch.save(dict(epoch=3), path)
    with pytest.raises(ValueError, match=r"got a dict with \['epoch'\]"):
        build(str(path))


def test_checkpoints_run_no_code(tmp_path):
    canary = tmp_path / 'canary'
    path = tmp_path / 'student.pth'
    torch.save(dict(state_dict=Canary(canary)), path)
    with pytest.raises(ValueError, match='cannot be read safely'):
        build(str(path))
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(ValueError, match='cannot be read safely'):
        build(str(path))
    assert not canary.exists()


def test_addresses_that_nothing_reads_are_refused():
    with pytest.raises(ValueError, match=r"reads, got 'ftp:"):
        build('ftp://a/b.pth')


@given(
    st.integers(0, 2**31 - 1),
    st.sampled_from(['', 'student.', 'backbone.', 'module.']),
)
@settings(max_examples=8, deadline=None)
def test_the_loader_finds_the_backbone_under_any_prefix(
    tmp_path_factory, seed, prefix
):
    torch.manual_seed(seed)
    source, target = (ResNet(18, base_channels=4, stem_channels=4)
                      for _ in range(2))  # fmt: skip
    weights = {prefix + k: v for k, v in source.state_dict().items()}
    if prefix:
        weights['head.fc.weight'] = torch.ones(2, 2)
    path = tmp_path_factory.mktemp('loader') / 'some.pth'
    torch.save(dict(state_dict=weights), path)
    given_prefix = prefix if prefix == 'module.' else None
    StrictPretrained(str(path), prefix=given_prefix)(target)
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


VIT = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(embed_dims=8, num_layers=1, num_heads=2,
              feedforward_channels=16),
    patch_size=4,
    out_type='featmap',
)  # fmt: skip
SWIN = dict(
    type='mmpretrain.SwinTransformer',
    out_indices=(1,),
    arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
    patch_size=2,
    window_size=4,
    use_abs_pos_embed=True,
)


@pytest.mark.parametrize(
    ('backbone', 'distilled', 'finetuned', 'resized'),
    [
        (VIT, dict(img_size=16), dict(img_size=32), 'pos_embed'),
        (SWIN, dict(img_size=32), dict(img_size=64), 'absolute_pos_embed'),
    ],
)  # fmt: skip
def test_what_the_backbone_resizes_is_loaded_and_logged(
    backbone, distilled, finetuned, resized, tmp_path, log
):
    path = str(tmp_path / 'student.pth')
    torch.manual_seed(3)
    state = MODELS.build({**backbone, **distilled}).state_dict()
    torch.save(dict(state_dict=state), path)
    net = build(path, backbone={**backbone, **finetuned})
    stock = MODELS.build({**backbone, **finetuned})
    stock.load_state_dict(state, strict=False)
    assert_loaded(net, stock.state_dict())
    assert f"load_state_dict hooks resolved ['{resized}" in log.text
    # Other widths are not resized.
    wider = {**backbone['arch'], 'embed_dims': 16}
    with pytest.raises(ValueError, match='mismatches'):
        build(path, backbone={**backbone, **finetuned, 'arch': wider})


def test_what_the_backbone_renames_is_loaded(tmp_path):
    """mmpretrain's Swin renames the norm of old files."""
    path = str(tmp_path / 'student.pth')
    state = MODELS.build({**SWIN, 'img_size': 32}).state_dict()
    state = {key: torch.rand_like(value) if value.is_floating_point() else
             value for key, value in state.items()}  # fmt: skip
    renamed = {key.replace('norm1.', 'norm.', 1) if key.startswith('norm1.')
               else key: value for key, value in state.items()}  # fmt: skip
    assert renamed.keys() != state.keys()
    torch.save(dict(state_dict=renamed), path)
    net = build(path, backbone={**SWIN, 'img_size': 32})
    assert_loaded(net, state)


def test_safetensors_are_read(tmp_path, weights):
    path = str(tmp_path / 'student.safetensors')
    save_file(weights, path)
    assert_loaded(build(path), weights)


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'net.encoder.'])
def test_wrappers_of_a_backbone_are_found(prefix, tmp_path, weights):
    path = str(tmp_path / 'student.pth')
    torch.save({prefix + k: v for k, v in weights.items()}, path)
    assert_loaded(build(path), weights)
    two = {f'{p}.{k}': v for k, v in weights.items() for p in ('a', 'b')}
    torch.save(two, path)
    with pytest.raises(ValueError, match=r"prefixes \['a\.', 'b\.'\]"):
        build(path)
    assert_loaded(build(path, prefix='b.'), weights)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda v: v.to(torch.int8), r'values of torch\.int8'),
        (lambda v: v * float('nan'), 'NaN or Inf'),
    ],
)
def test_values_that_are_no_weights_are_refused(
    change, message, tmp_path, weights
):
    path = str(tmp_path / 'student.pth')
    weights['conv1.weight'] = change(weights['conv1.weight'])
    torch.save(weights, path)
    with pytest.raises(ValueError, match=rf'conv1\.weight: {message}'):
        build(path)
    weights['conv1.weight'] = torch.ones_like(weights['conv1.weight']).half()
    torch.save(weights, path)
    assert build(path).conv1.weight.dtype == torch.float32
