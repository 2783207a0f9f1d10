"""Private members of other packages that this package relies on.

They have no public counterpart. The list is complete, and each member exists:
a rename upstream is found when dependencies are updated.
"""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import repfusion_mm

#: Import path of each member, with the reason. Members of instances are those
#: of their class.
PRIVATE_MEMBERS = {
    'logging._nameToLevel': 'check log_level before mmengine reads it',
    'mmengine.config.Config._get_base_files': (
        'find the files that a config inherits from, as mmengine does'
    ),
    'mmengine.config.Config._get_cfg_path': (
        'find the files that a config inherits from, as mmengine does'
    ),
    'mmengine.runner.Runner._load_from': 'name the checkpoint in errors',
    'mmengine.runner.Runner._hooks': 'remove hooks that are there twice',
    'mmengine.runner.Runner._resume': 'tell a resumed run from load_from',
    'mmengine.runner.Runner._train_dataloader': (
        'build its sampler again, which an IterBasedTrainLoop has begun'
    ),
    'mmengine.hooks.CheckpointHook._save_checkpoint_with_step': (
        'overridden: remove old checkpoints after writing the new one'
    ),
    'mmengine.hooks.CheckpointHook._save_best_checkpoint': (
        'overridden: remove the previous best after writing the new one'
    ),
    'mmengine.optim.OptimWrapper._accumulative_counts': (
        'checkpoints between two batches of an update lose gradients'
    ),
    'mmengine.optim.OptimWrapper._clip_grad': (
        'clip each part under one gradient scaler'
    ),
    'mmengine.optim.AmpOptimWrapper._scale_update_param': (
        'update the gradient scaler once for all parts'
    ),
    'mmengine.model.BaseModule._params_init_info': (
        'log where initial weights come from'
    ),
    'mmengine.model.BaseDataPreprocessor._non_blocking': (
        'move a batch as mmengine does'
    ),
    'mmengine.model.ImgDataPreprocessor._enable_normalize': (
        'normalize a batch as mmengine does'
    ),
    'mmengine.runner.EpochBasedTrainLoop._decide_current_val_interval': (
        'run a validation that was skipped'
    ),
    'torch.utils.data.DataLoader._iterator': (
        'restart persistent workers of an IterBasedTrainLoop'
    ),
    'torch.distributions.Categorical._num_events': (
        'sample without synchronizing with the device'
    ),
    'torch.distributions.Categorical._extended_shape': (
        'sample without synchronizing with the device'
    ),
    'mmengine.visualization.Visualizer._vis_backends': (
        'add a picture to all backends if one of them fails'
    ),
    'mmengine.runner.runner._SlicedDataset._dataset': (
        'find the dataset that num_batch_per_epoch wraps'
    ),
    'mmengine.dataset.BaseDataset._metainfo': 'name the classes of folders',
    'torch._C.PyTorchFileReader': 'detect TorchScript archives',
    'torch._tensor._rebuild_from_type_v2': 'read checkpoints safely',
    'torch._utils._rebuild_parameter': 'read checkpoints safely',
    'torch._utils._rebuild_tensor': 'read checkpoints safely',
    'torch._utils._rebuild_tensor_v2': 'read checkpoints safely',
    'torch._utils._rebuild_sparse_tensor': 'read checkpoints safely',
}
PACKAGE = Path(repfusion_mm.__file__).parent
#: Documented, in spite of their names.
PUBLIC = {'_fields', '_exit', '_asdict', '_replace'}


def resolve(path):
    """Return the object that holds a member, and the member's name."""
    owner, name = path.rsplit('.', 1)
    parts = owner.split('.')
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found, name
    raise ModuleNotFoundError(owner)


@pytest.mark.parametrize('path', PRIVATE_MEMBERS)
def test_private_members_exist_upstream(path):
    owner, name = resolve(path)
    if hasattr(owner, name):
        return
    # An attribute of instances.
    sources = [inspect.getsource(cls) for cls in owner.__mro__[:-1]]
    assert any(f'self.{name}' in source for source in sources)


def is_private(name):
    return name.startswith('_') and not name.startswith('__')


def find_private_names(tree):
    """Return the private names that a module uses but does not define."""
    nodes = list(ast.walk(tree))
    own = {
        node.name
        for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    own |= {
        node.id
        for node in nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    own |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, 'id', '') == 'self'
    }
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Call) and len(node.args) > 1:
            is_attribute = getattr(node.func, 'id', '') in (
                'getattr',
                'hasattr',
                'setattr',
            )
            if is_attribute and isinstance(node.args[1], ast.Constant):
                used.add(node.args[1].value)
        if isinstance(node, ast.ImportFrom) and not (
            node.module or ''
        ).startswith('repfusion_mm'):
            used |= {alias.name for alias in node.names}
    return {name for name in used - own - PUBLIC if is_private(name)}


def test_no_other_private_members_are_used():
    listed = {part for path in PRIVATE_MEMBERS for part in path.split('.')}
    unlisted = {
        f'{path.relative_to(PACKAGE)}: {name}'
        for path in PACKAGE.rglob('*.py')
        for name in find_private_names(ast.parse(path.read_text()))
        if name not in listed
    }
    assert not unlisted
