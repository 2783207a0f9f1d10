"""RepFusion for OpenMMLab: diffusion models as teachers."""

from .compat import heal_stack
from .version import __version__

heal_stack()

__all__ = ['__version__']
