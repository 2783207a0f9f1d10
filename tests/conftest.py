import functools
import os
from pathlib import Path
from types import SimpleNamespace

# Tests compare numbers of the CPU. Those marked gpu need TEST_GPU=1.
if not os.environ.get('TEST_GPU'):
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
# Before torch is imported: with more threads, idle ones busy-wait.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Read when huggingface_hub is imported: no test downloads anything.
os.environ.setdefault('HF_HUB_OFFLINE', '1')

import pytest
import torch
from mmengine.config import config as config_module
from mmengine.config import utils as config_utils
from mmengine.dataset import base_dataset
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch.utils.data import _utils as dataloader_utils

from repfusion_mm.models.teachers.features import truncation
from repfusion_mm.utils.compat import READS_SAFELY  # applies workarounds
from tests.helpers.process_state import preserved_state

torch.set_num_threads(1)
# mmengine formats the config of each run nine times with yapf, a third of the
# time of a short run.
config_module.FormatCode = lambda text, **kwargs: (text, True)
# It parses all metafiles of a package for each config that inherits from one
# of its configs, half of the time of reading a config.
config_utils.load = functools.lru_cache(maxsize=None)(config_utils.load)
# It collects garbage for each dataset, a fifth of the time of a short run.
base_dataset.gc = SimpleNamespace(collect=lambda: 0)
# Instead of 5 s for each worker of a dataloader that the garbage collector
# finds after its queues, as those of a runner.
dataloader_utils.MP_STATUS_CHECK_INTERVAL = 0.1
# Teachers are surveyed on the meta device, which takes longer than all else in
# most tests. Equal ones are surveyed once in a process.
_survey_denoiser, _surveys = truncation.survey_denoiser, {}


@functools.wraps(_survey_denoiser)
def _survey_once(meta_model, family, size, arguments):
    shapes = {k: getattr(v, 'shape', v) for k, v in arguments.items()}
    key = type(meta_model), str((meta_model, family.config, size, shapes))
    if key not in _surveys:
        _surveys[key] = _survey_denoiser(meta_model, family, size, arguments)
    return _surveys[key]


truncation.survey_denoiser = _survey_once

SYSTEM = Path(__file__).parent / 'system'


def pytest_collection_modifyitems(items):
    for item in items:
        if SYSTEM in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _preserve_state():
    """Undo what a test changes in the process; start from one seed."""
    with preserved_state():
        init_default_scope('mmpretrain')
        torch.manual_seed(0)
        yield


@pytest.fixture
def log(caplog):
    """Records of mmengine's current logger."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def fresh_compiler(tmp_path, monkeypatch):
    """Empty the caches of torch.compile."""
    if not READS_SAFELY:
        pytest.skip('torch 2.1 cannot compile a pass with an early exit')
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'inductor'))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def no_compiler(fresh_compiler):
    """Let torch.compile find no C++ compiler."""
    from torch._inductor import config

    # Not pytest's monkeypatch: this module refuses an option that was
    # deleted and set again.
    with config.patch({'cpp.cxx': ('nowhere',), 'fx_graph_cache': False}):
        yield


@pytest.fixture(scope='session')
def teacher_folder(tmp_path_factory):
    """A miniature denoiser in a folder of diffusers."""
    from tests.helpers.toy import save_teacher

    return save_teacher(tmp_path_factory.mktemp('teacher') / 'ddpm')


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    """A folder with the data and teachers that the configs name."""
    from tests.helpers.miniature import make_site

    site = tmp_path_factory.mktemp('site')
    make_site(site)
    return site


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """A folder with the dataset of the demo in data/digits."""
    from tests.helpers.launcher import run_main

    site = tmp_path_factory.mktemp('digits')
    out = site / 'data/digits'
    run_main('projects/digits/prepare_data.py', '--out', out)
    return site


@pytest.fixture(scope='session')
def student(digits):
    """The student of a short distillation on the digits: a .pth file."""
    from tests.helpers.launcher import ROOT, run_main
    from tests.helpers.toy import save_teacher

    teacher = save_teacher(digits / 'teacher')
    run_main(
        'tools/train.py',
        ROOT / 'configs/distill/repfusion_resnet18_digits.py',
        '--work-dir', digits / 'distilled', '--cfg-options',
        f'model.teacher.pretrained={teacher}',
        'model.student.base_channels=8', 'model.student.stem_channels=8',
        'train_dataloader.batch_size=8',
        'train_dataloader.sampler.num_samples=16',
        'train_cfg.max_epochs=2',
        cwd=digits,
    )  # fmt: skip
    return digits / 'distilled/student.pth'
