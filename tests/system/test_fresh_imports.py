"""How names resolve in an interpreter that has imported nothing else."""

import sys

import pytest

from tests.helpers.launcher import SCRIPTS, launch

NAMES = dict(
    OPTIM_WRAPPER_CONSTRUCTORS='MultiOptimWrapperConstructor',
    DATA_SAMPLERS='ProportionalSampler',
    DATASETS='CachedFeaturesDataset',
    HOOKS='TimestepPolicyHook',
    MODELS='RepFusion',
)
#: Benchmarks and the converter of weights offer choices that torch defines.
TOOLS = [
    path
    for path in SCRIPTS
    if path.startswith('tools/')
    and not path.startswith(('tools/benchmarks/', 'tools/model_converters/'))
]


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
large = 'torch', 'diffusers', 'mmpretrain', 'sklearn', 'matplotlib'
print([name for name in large if name in sys.modules])
""")
    assert output.strip() == '[]'


@pytest.mark.parametrize(
    'arguments',
    [
        pytest.param(['--help'], id='help'),
        pytest.param(['mine.py', '--no-such-option'], id='option'),
        pytest.param(['no_such_config.py'], id='config'),
    ],
)
def test_help_and_wrong_arguments_of_training_do_not_import_torch(arguments):
    output = run_code(f"""
import sys
from tools.train import main
try:
    main({arguments!r})
finally:
    large = 'torch', 'diffusers', 'mmpretrain', 'transformers'
    print([name for name in large if name in sys.modules])
""", expect=int(arguments != ['--help']))  # fmt: skip
    assert '[]' in output.splitlines()


@pytest.mark.parametrize('script', TOOLS)
def test_help_of_a_tool_does_not_import_torch(script):
    output = run_code(f"""
import runpy, sys
sys.argv = [{script!r}, '--help']
try:
    runpy.run_path({script!r}, run_name='__main__')
finally:
    large = 'torch', 'diffusers', 'mmpretrain', 'transformers', 'matplotlib'
    print([name for name in large if name in sys.modules])
""")
    assert output.splitlines()[-1] == '[]'


def test_only_a_student_of_mmpretrain_imports_it():
    output = run_code("""
import sys
from repfusion_mm.registry import MODELS
for name in 'RepFusion', 'MobileNetV2_CIFAR':
    found = MODELS.get(f'repfusion_mm.{name}')
    print(found.__name__, 'mmpretrain' in sys.modules)
""")
    assert output.split()[-4:] == [
        'RepFusion', 'False', 'MobileNetV2_CIFAR', 'True',
    ]  # fmt: skip


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


class WithoutMmcv:
    # As if it were not installed, also for its submodules.

    def find_spec(self, name, path, target=None):
        if name == 'mmcv':
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)


sys.meta_path.insert(0, WithoutMmcv())
from tools.train import main
main(['configs/distill/repfusion_r18_cifar.py'])
""",
        expect=1,
    )
    assert output.splitlines()[-1].endswith(
        "; run: pip install 'mmcv-lite==2.1.0'"
    )
