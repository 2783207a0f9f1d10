import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOK_UP = """
from mmengine import registry
registry.init_default_scope({scope!r})
for parent, name in {names!r}.items():
    print(getattr(registry, parent).get('repfusion_mm.' + name).__name__)
"""
NAMES = dict(
    OPTIM_WRAPPER_CONSTRUCTORS='MultiOptimWrapperConstructor',
    DATA_SAMPLERS='ProportionalSampler',
    DATASETS='CachedFeaturesDataset',
    HOOKS='TimestepPolicyHook',
    MODELS='RepFusion',
)


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain'])
def test_names_resolve_without_an_import_of_this_package(scope):
    code = LOOK_UP.format(scope=scope, names=NAMES)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.split()[-len(NAMES) :] == list(NAMES.values()), (
        done.stderr
    )


def test_importing_the_package_is_light():
    code = (
        'import sys, repfusion_mm; '
        "print([m for m in ('diffusers', 'mmpretrain', 'sklearn', "
        "'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == '[]', done.stderr


def test_loader_is_found_by_its_scope_alone():
    """Without an import, init_cfg reaches this loader, not mmengine's."""
    code = """
from mmengine.model import Sequential
from torch.nn import Linear
from mmengine.registry import init_default_scope
init_default_scope('mmpretrain')
net = Sequential(Linear(1, 1), init_cfg=dict(
    type='Pretrained', _scope_='repfusion_mm', checkpoint=''))
net.init_weights()
"""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert 'expected the path of a checkpoint' in done.stderr


def test_a_data_set_is_imported_without_the_projects_of_the_others():
    code = (
        'import sys; from mmengine.registry import DATASETS; '
        "found = DATASETS.get('repfusion_mm.CachedFeaturesDataset'); "
        "alone = 'mmseg' not in sys.modules; "
        "faces = DATASETS.get('repfusion_mm.CelebAMaskHQDataset'); "
        'print(found.__name__, alone, faces.__name__)'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    # Behind what a fork prints when mmseg is imported.
    assert done.stdout.splitlines()[-1] == (
        'CachedFeaturesDataset True CelebAMaskHQDataset'
    ), done.stderr
