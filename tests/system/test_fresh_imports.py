"""How names resolve in an interpreter that has imported nothing else."""

import sys

import pytest

from tests.helpers.launcher import launch

NAMES = dict(
    OPTIM_WRAPPER_CONSTRUCTORS='MultiOptimWrapperConstructor',
    DATA_SAMPLERS='ProportionalSampler',
    DATASETS='CachedFeaturesDataset',
    HOOKS='TimestepPolicyHook',
    MODELS='RepFusion',
)


def run_code(code, expect=0):
    return launch(sys.executable, '-c', code, expect=expect)


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain'])
def test_names_resolve_without_importing_this_package(scope):
    output = run_code(f"""
from mmengine import registry
registry.init_default_scope({scope!r})
for parent, name in {NAMES!r}.items():
    print(getattr(registry, parent).get('repfusion_mm.' + name).__name__)
""")
    assert output.split()[-len(NAMES) :] == list(NAMES.values())


def test_importing_the_package_imports_no_large_dependency():
    output = run_code("""
import sys, repfusion_mm
large = 'diffusers', 'mmpretrain', 'sklearn', 'matplotlib.pyplot'
print([name for name in large if name in sys.modules])
""")
    assert output.strip() == '[]'


def test_the_strict_loader_is_found_by_its_scope():
    """Without an import of it, init_cfg uses this loader, not mmengine's."""
    output = run_code(
        """
from mmengine.model import Sequential
from torch.nn import Linear
from mmengine.registry import init_default_scope
init_default_scope('mmpretrain')
net = Sequential(Linear(1, 1), init_cfg=dict(
    type='Pretrained', _scope_='repfusion_mm', checkpoint=''))
net.init_weights()
""",
        expect=1,
    )
    assert 'expected the path of a checkpoint' in output


def test_a_dataset_resolves_without_the_dependencies_of_the_others():
    output = run_code("""
import sys
from mmengine.registry import DATASETS
cached = DATASETS.get('repfusion_mm.CachedFeaturesDataset')
imports_mmseg = 'mmseg' in sys.modules
faces = DATASETS.get('repfusion_mm.CelebAMaskHQDataset')
print(cached.__name__, imports_mmseg, faces.__name__)
""")
    # The last line: some versions of mmseg print when they are imported.
    assert output.splitlines()[-1] == (
        'CachedFeaturesDataset False CelebAMaskHQDataset'
    )


def test_a_tool_without_mmcv_names_the_command_that_installs_it():
    output = run_code(
        """
import sys
sys.modules['mmcv'] = None  # as if it were not installed
import repfusion_mm.cli
""",
        expect=1,
    )
    assert output.splitlines()[-1].endswith(
        "; run: pip install 'mmcv-lite==2.1.0'"
    )
