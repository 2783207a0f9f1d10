import pytest
import torch
from mmengine.registry import MODELS

from tests.helpers.toy import distiller_config

SMALL = dict(
    type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8
)
SWIN = dict(
    type='mmseg.SwinTransformer',
    pretrain_img_size=16,
    embed_dims=8,
    patch_size=2,
    window_size=2,
    depths=(1, 1),
    num_heads=(1, 2),
    strides=(2, 2),
    out_indices=(1,),
)


def distiller(**overrides):
    return MODELS.build(distiller_config(**overrides))


def pretrained(checkpoint, **arguments):
    return dict(type='Pretrained', checkpoint=str(checkpoint), **arguments)


def weights_of(backbone, seed=0, **arguments):
    torch.manual_seed(seed)
    return MODELS.build(dict(backbone, **arguments)).state_dict()


def save(folder, weights, prefix='', **others):
    path = folder / 'weights.pth'
    content = {prefix + key: value for key, value in weights.items()}
    torch.save(dict(state_dict={**content, **others}), path)
    return path


@pytest.mark.parametrize(
    ('prefix', 'depth', 'arguments'),
    [
        ('student.', 18, {}),
        ('backbone.', 18, {}),
        ('', 34, {}),
        ('backbone.', 34, dict(prefix='backbone.')),
    ],
)
def test_files_that_do_not_fit_the_student_are_refused(
    tmp_path, prefix, depth, arguments
):
    file = save(tmp_path, weights_of(SMALL, depth=depth), prefix)
    student = dict(SMALL, init_cfg=pretrained(file, **arguments))
    with pytest.raises(ValueError, match=r"_scope_='repfusion_mm'"):
        distiller(student=student).init_weights()


def test_deeper_students_than_the_file_are_refused(tmp_path):
    file = save(tmp_path, weights_of(SMALL))
    student = dict(SMALL, depth=34, init_cfg=pretrained(file))
    with pytest.raises(ValueError, match='that are not loaded'):
        distiller(student=student).init_weights()


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.'])
@pytest.mark.parametrize('out_indices', [(3,), (1, 2)])
def test_weights_of_a_classifier_are_loaded(tmp_path, prefix, out_indices):
    weights = weights_of(SMALL)
    head = {'fc.weight': torch.ones(2, 8), 'head.fc.bias': torch.ones(2)}
    file = save(tmp_path, weights, prefix, **head)
    arguments = dict(prefix=prefix) if prefix == 'backbone.' else {}
    student = dict(
        SMALL,
        out_indices=out_indices,
        init_cfg=pretrained(file, **arguments),
    )
    model = distiller(student=student, student_indices=(0,))
    model.init_weights()
    assert model.student.conv1.weight.equal(weights['conv1.weight'])


def test_norms_of_outputs_may_be_missing(tmp_path):
    weights = weights_of(SWIN, out_indices=(0, 1))
    weights = {k: v for k, v in weights.items() if 'norm0' not in k}
    file = save(tmp_path, weights)
    student = dict(SWIN, out_indices=(0, 1), init_cfg=pretrained(file))
    distiller(student=student).init_weights()


def test_initialization_draws_the_same_numbers_as_without_a_check(tmp_path):
    file = save(tmp_path, weights_of(SMALL))
    states = []
    for init_cfg in (None, pretrained(file)):
        torch.manual_seed(0)
        model = distiller(student=dict(SMALL, init_cfg=init_cfg))
        torch.manual_seed(1)
        model.init_weights()
        states.append(model.policy.state_dict())
    for key, value in states[0].items():
        assert value.equal(states[1][key])


def test_the_statistics_of_the_normalizer_are_not_touched(tmp_path):
    """A copy of a model shares the normalizers."""
    file = save(tmp_path, weights_of(SMALL))
    student = dict(SMALL, init_cfg=pretrained(file))
    model = distiller(student=student, normalizer='standardize')
    before = {k: v.clone() for k, v in model.normalizers.named_buffers()}
    assert before['0.count'] == 0
    model.init_weights()
    for key, value in model.normalizers.named_buffers():
        assert value.equal(before[key]), key


def test_the_distiller_may_be_loaded_completely(tmp_path):
    model = distiller()
    model.init_weights()
    file = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict()), file)
    loaded = distiller(init_cfg=pretrained(file))
    loaded.init_weights()
    for key, value in model.state_dict().items():
        assert value.equal(loaded.state_dict()[key])
    torch.save(dict(state_dict=model.student.state_dict()), file)
    with pytest.raises(ValueError, match=r'model\.init_cfg'):
        distiller(init_cfg=pretrained(file)).init_weights()


def test_the_strict_initializer_reads_what_may_be_unused(tmp_path):
    file = save(tmp_path, weights_of(SMALL, depth=34), 'backbone.')
    strict = pretrained(
        file,
        _scope_='repfusion_mm',
        allow_unused=['layer*'],
        allow_changes=True,
    )
    distiller(student=dict(SMALL, init_cfg=strict)).init_weights()
