import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from repfusion_mm.models.teachers.loading.timm import load_timm_model
from tests.helpers.timm_models import MODELS, save_model

timm = pytest.importorskip('timm')


def load(file, kind='dinov2'):
    name, arguments, size = MODELS[kind]
    return load_timm_model(name, str(file), (size, size), arguments)


@pytest.fixture
def file(tmp_path):
    save_model(tmp_path / 'model.safetensors', size=28)
    return tmp_path / 'model.safetensors'


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth', '.bin'])
@pytest.mark.parametrize('classes', [0, 7, 1000])
def test_files_with_any_classifier_are_loaded(tmp_path, suffix, classes):
    file = tmp_path / 'model.safetensors'
    model = save_model(file, 'resnet', num_classes=classes)
    if suffix != '.safetensors':
        file = tmp_path / f'model{suffix}'
        torch.save(dict(state_dict=model.state_dict(), epoch=3), file)
    state = load(file, 'resnet').state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value)


def test_the_file_is_not_kept_in_memory(file):
    assert 'state_dict' not in load(file).pretrained_cfg


def test_the_authors_layout_is_converted_by_timm(file):
    """That of the file dinov2_vitb14_reg4_pretrain.pth."""
    names = {'reg_token': 'register_tokens'}
    state = load_file(file)
    theirs = {names.get(key, key): value for key, value in state.items()}
    theirs['mask_token'] = torch.zeros(1, 32)
    # It has a position for the class token as well.
    theirs['pos_embed'] = torch.cat(
        [torch.zeros(1, 1, 32), state['pos_embed']], dim=1
    )
    written = file.with_suffix('.pth')
    torch.save(theirs, written)
    loaded = load(written).state_dict()
    for key in ('reg_token', 'pos_embed', 'blocks.3.mlp.fc2.weight'):
        assert torch.equal(loaded[key], state[key])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('blocks.1.norm1.bias'), r'Missing key.*1\.norm1'),
        (lambda s: s.update(new=torch.ones(1)), 'Unexpected key.*new'),
        (
            lambda s: s.update({'cls_token': torch.ones(1, 1, 8)}),
            'size mismatch for cls_token',
        ),
        (lambda s: s['cls_token'].fill_(torch.nan), 'NaN or Inf.*cls_token'),
    ],
)
def test_files_that_do_not_fit_are_refused(file, change, message):
    state = load_file(file)
    change(state)
    save_file(state, file)
    with pytest.raises(ValueError, match=message):
        load(file)


def test_damaged_files_and_code_are_refused(file):
    os.truncate(file, 1000)
    with pytest.raises(ValueError, match='can be read safely'):
        load(file)
    code = file.with_suffix('.pth')
    torch.save(dict(state_dict=torch.nn.Linear(1, 1)), code)
    with pytest.raises(ValueError, match='can be read safely'):
        load(code)


@pytest.mark.parametrize('name', ['nothing.pth', '.', 'model.txt'])
def test_no_file_is_refused(tmp_path, name):
    (tmp_path / 'model.txt').touch()
    with pytest.raises(FileNotFoundError, match='a file that ends in one of'):
        load(tmp_path / name)


def test_weights_that_are_not_at_hand_are_explained():
    name, arguments, _ = MODELS['dinov2']
    with pytest.raises(ConnectionError, match=f'hf download timm/{name}'):
        load_timm_model(name, True, None, arguments)


def test_models_without_weights_are_refused():
    with pytest.raises(ValueError, match='timm has weights of'):
        load_timm_model('densenet264d', True, None, {})
