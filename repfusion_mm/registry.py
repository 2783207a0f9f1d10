"""Children of mmengine's registries, under the scope ``repfusion_mm``.

mmengine imports ``<scope>.registry`` when it encounters a type such as
``repfusion_mm.RepFusion``, and the ``locations`` at the first lookup. Names
therefore resolve in every OpenMMLab library.
"""

from importlib import import_module
from typing import Dict, Optional, Set

from mmengine import registry as root
from mmengine.registry import Registry


def _child(parent: Registry, location: str) -> Registry:
    return Registry(
        parent.name,
        parent=parent,
        scope='repfusion_mm',
        locations=[f'repfusion_mm.{location}'],
    )


class _LazyRegistry(Registry):
    """Import the module of a class when it is looked up by name.

    ``locations`` are all imported at the first lookup. These modules import
    another project, which takes seconds, and which others do not require.
    """

    def __init__(
        self, parent: Registry, location: str, modules: Dict[str, str]
    ) -> None:
        location = f'repfusion_mm.{location}'
        super().__init__(
            parent.name,
            parent=parent,
            scope='repfusion_mm',
            locations=[location],
        )
        #: Modules by the names of their classes.
        self.modules = {k: f'{location}.{v}' for k, v in modules.items()}

    def get(self, key: str) -> Optional[type]:
        """Return the class of the name ``key``."""
        module = self.modules.get(key.split('.')[-1])
        if module:
            import_module(module)
        return super().get(key)


MODELS = _LazyRegistry(
    root.MODELS,
    'models',
    dict(MobileNetV2_CIFAR='backbones.mobilenet_v2_cifar'),
)
#: Families of denoisers, by the name of the diffusers class.
DENOISER_FAMILIES = Registry(
    'denoiser family',
    scope='repfusion_mm',
    locations=['repfusion_mm.models.teachers.families'],
)
HOOKS = _child(root.HOOKS, 'engine.hooks')
DATASETS = _LazyRegistry(
    root.DATASETS,
    'datasets',
    dict(
        CachedFeaturesDataset='feature_cache.dataset',
        CachedLatentsDataset='feature_cache.dataset',
        CelebAMaskHQDataset='celebamask_hq',
        ImageFolderDataset='image_folder',
        MaskFolderDataset='mask_folder',
        SeededConcatDataset='seeded_concat_dataset',
    ),
)
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'datasets.samplers')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets.transforms')
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, 'engine.optimizers')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine.optimizers'
)
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS, 'engine.checkpoint')


def registered_names() -> Set[str]:
    """Return the names of all classes that configs can name, without scope."""
    names = {*MODELS.modules, *DATASETS.modules}
    for registry in (
        MODELS, HOOKS, DATASETS, DATA_SAMPLERS, TRANSFORMS, OPTIM_WRAPPERS,
        OPTIM_WRAPPER_CONSTRUCTORS, WEIGHT_INITIALIZERS,
    ):  # fmt: skip
        registry.import_from_location()
        names.update(registry.module_dict)
    return names


__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'DENOISER_FAMILIES',
    'HOOKS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'TRANSFORMS',
    'WEIGHT_INITIALIZERS',
    'registered_names',
]
