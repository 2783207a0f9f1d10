"""Private members of other packages that this package relies on.

They have no public counterpart. A test checks that each exists, and that the
package uses no others, so that a rename upstream is found when dependencies
are updated.
"""

from __future__ import annotations

from typing import Dict

#: Import path of each member, with the reason. Members of instances are those
#: of their class.
PRIVATE_MEMBERS: Dict[str, str] = {
    'logging._nameToLevel': 'check log_level before mmengine reads it',
    'mmengine.runner.Runner._load_from': 'name the checkpoint in errors',
    'mmengine.runner.Runner._resume': 'tell a resumed run from load_from',
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
    'torch.utils.data.DataLoader._iterator': (
        'restart persistent workers of an IterBasedTrainLoop'
    ),
    'torch.distributions.Categorical._num_events': (
        'sample without synchronizing with the device'
    ),
    'torch.distributions.Categorical._extended_shape': (
        'sample without synchronizing with the device'
    ),
    'mmengine.runner.runner._SlicedDataset._dataset': (
        'find the data set that num_batch_per_epoch wraps'
    ),
    'torch._C.PyTorchFileReader': 'detect TorchScript archives',
    'torch._tensor._rebuild_from_type_v2': 'read checkpoints safely',
    'torch._utils._rebuild_parameter': 'read checkpoints safely',
    'torch._utils._rebuild_tensor': 'read checkpoints safely',
    'torch._utils._rebuild_tensor_v2': 'read checkpoints safely',
    'torch._utils._rebuild_sparse_tensor': 'read checkpoints safely',
}
