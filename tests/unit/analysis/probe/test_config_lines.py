"""What the probe prints is a config that builds and distills."""

import pytest
import torch
from mmengine.config import Config

from repfusion_mm.analysis.probe.config_lines import advise, format_lines
from repfusion_mm.engine.optimizers import MultiOptimWrapperConstructor
from repfusion_mm.registry import MODELS
from tests.helpers.launcher import ROOT
from tests.helpers.toy import batch

LAYERS = ['down_blocks.0.resnets.0', 'mid_block.resnets.1.conv2']
BASE = """
_base_ = ['{root}/configs/distill/repfusion_resnet18_digits.py']
model = dict(
    student=dict(stem_channels=4, base_channels=4, out_indices=(2, 3)),
    teacher=dict(pretrained='{teacher}', layers={layers}),
    student_indices={indices},
    layer_weights={weights},
    decoder_layers='all',
)
"""


def read(text, folder, teacher, layers, indices):
    base = folder / 'mine.py'
    base.write_text(
        BASE.format(
            root=ROOT,
            teacher=teacher,
            layers=layers,
            indices=indices,
            weights=[2.0] * len(layers),
        )
    )
    lines = text(Config.fromfile(base))
    assert all(len(line) < 200 for line in lines.splitlines())
    (folder / 'printed.py').write_text(lines)
    return Config.fromfile(folder / 'printed.py')


@pytest.mark.parametrize('layers', [LAYERS[1:], LAYERS])
@pytest.mark.parametrize('input_mode', [None, 'noised'])
def test_the_lines_are_a_config_that_distills(
    layers, input_mode, tmp_path, teacher_folder
):
    layer = layers[0]
    cfg = read(
        lambda cfg: format_lines(cfg, layers, layer, 300, input_mode),
        tmp_path, teacher_folder, layers, [0, 1][-len(layers) :],
    )  # fmt: skip
    model = MODELS.build(cfg.model)
    assert type(model.policy).__name__ == 'FixedTimestepPolicy'
    assert model.policy.timesteps.tolist() == [300]
    assert model.decoder is None
    assert list(model.teacher.feature_shapes) == [layer]
    assert model.student_indices == ((0,) if len(layers) > 1 else (1,))
    assert model.layer_weights == ([1.0] if len(layers) > 1 else [2.0])
    assert model.teacher.live.input_mode == (input_mode or 'clean')
    # Other settings are those of the config.
    assert cfg.model.teacher.dtype == 'float32'
    assert type(model.normalizers[0]).__name__ == 'StandardizeNormalizer'

    options = cfg.optim_wrapper.to_dict()
    options.pop('constructor')
    wrapper = MultiOptimWrapperConstructor(options)(model)
    before = model.student.conv1.weight.clone()
    outputs = model.train_step(batch(4), wrapper)
    assert torch.isfinite(outputs['loss_distill'])
    assert outputs['timestep_mean'] == 300
    assert 'reward' not in outputs
    assert not torch.equal(before, model.student.conv1.weight)


@pytest.mark.parametrize(
    ('text', 'layers', 'mode', 'words'),
    [
        ('timestep = None\npolicy = dict(timestep=timestep)', 1, None,
         'mine.py, set timestep = 300, and train it.'),
        ('timestep = None\npolicy = dict(timestep=timestep)', 2, None,
         'mine_t300.py, and train it:'),
        ('timestep = None\npolicy = dict(timestep=timestep)', 1, 'noised',
         'mine_t300.py, and train it:'),
        # A dump of a config, which reads no variable.
        ('timestep = None\npolicy = dict(timestep=None)', 1, None,
         'mine_t300.py, and train it:'),
    ],
)  # fmt: skip
def test_the_advice_names_the_file(tmp_path, text, layers, mode, words):
    path = tmp_path / 'mine.py'
    path.write_text(
        f'{text}\nmodel = dict(teacher=dict(layers={LAYERS[:layers]}), '
        'student_indices=[0, 1])'
    )
    cfg = Config.fromfile(path)
    assert words in advise(cfg, LAYERS[:layers], LAYERS[0], 300, mode)


@pytest.mark.parametrize(
    ('layers', 'again'),
    [
        (LAYERS[:1], 'data_root, model.teacher.pretrained'),
        (LAYERS, 'data_root'),
    ],
)
def test_only_options_that_are_not_written_are_given_again(
    tmp_path, layers, again
):
    path = tmp_path / 'mine.py'
    path.write_text('model = dict(teacher=dict(), student_indices=[0, 1])')
    options = {
        'model.teacher.pretrained': 'x', 'data_root': 'x',
        'probe_dataset.ann_file': 'x', 'model.policy.timestep': 5,
    }  # fmt: skip
    if len(layers) > 1:
        options['model.student_indices'] = [0, 1]
    text = advise(Config.fromfile(path), layers, LAYERS[0], 300, None, options)
    assert f'with the same --cfg-options for {again}:' in text
