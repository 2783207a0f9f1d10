"""Children of mmengine's registries, under the scope ``repfusion_mm``.

mmengine imports ``<scope>.registry`` by itself when it meets a type such as
``repfusion_mm.RepFusion``, and the ``locations`` at the first look-up, so the
names resolve from every OpenMMLab project.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(parent: Registry, location: str) -> Registry:
    return Registry(
        parent.name,
        parent=parent,
        scope='repfusion_mm',
        locations=[f'repfusion_mm.{location}'],
    )


MODELS = _child(root.MODELS, 'models')
HOOKS = _child(root.HOOKS, 'engine')
# Not all of 'datasets': its data sets need mmsegmentation, samplers do not.
DATASETS = _child(root.DATASETS, 'datasets.celebamask_hq')
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'datasets.samplers')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS, 'engine')

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'HOOKS',
    'MODELS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'WEIGHT_INITIALIZERS',
]
