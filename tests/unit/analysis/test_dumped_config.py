import pytest
from mmengine.config import Config

from repfusion_mm.analysis.dumped_config import read_dumped_config
from tests.helpers.launcher import ROOT

CONFIGS = ['distill/*r18_digits', 'finetune/mmseg/*r18*', 'finetune/mmpose/*']


@pytest.mark.parametrize('pattern', CONFIGS)
def test_a_dumped_config_is_read_without_running_it(pattern, tmp_path):
    cfg = Config.fromfile(next((ROOT / 'configs').glob(f'{pattern}.py')))
    cfg.dump(tmp_path / 'config.py')
    assert read_dumped_config(tmp_path / 'config.py') == cfg.to_dict()
