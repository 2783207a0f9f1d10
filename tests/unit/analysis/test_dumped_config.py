import pytest
from mmengine.config import Config

from repfusion_mm.analysis.dumped_config import read_dumped_config
from tests.helpers.launcher import ROOT


@pytest.mark.parametrize(
    'pattern', ['distill/*resnet18_digits', 'finetune/mmpose/*']
)
def test_a_dumped_config_is_read_without_running_it(pattern, tmp_path):
    cfg = Config.fromfile(next((ROOT / 'configs').glob(f'{pattern}.py')))
    cfg.dump(tmp_path / 'config.py')
    assert read_dumped_config(tmp_path / 'config.py') == cfg.to_dict()


@pytest.mark.parametrize(
    'text',
    [
        'dict(**dict(b=1))',
        'dict([1])',
        'dict({}, {})',
        '{**{}}',
        'f(1)',
        'b.c',
    ],
)
def test_other_syntax_is_refused(tmp_path, text):
    path = tmp_path / 'config.py'
    path.write_text(f'a = {text}\n')
    with pytest.raises(ValueError, match=r'written by mmengine .* at line 1'):
        read_dumped_config(path)


def test_every_kind_of_value_is_read(tmp_path):
    values = dict(
        a=[1, -2.5, None, True], b=('text', ()), c={1: 'x', 'y-z': [{}]},
        d=dict(lowest=-1e9, highest=float('inf'), mean=dict(value=1e-3)),
    )  # fmt: skip
    Config(values).dump(tmp_path / 'config.py')
    assert read_dumped_config(tmp_path / 'config.py') == values
