"""RepFusion for OpenMMLab: diffusion models as teachers."""

from repfusion_mm.utils.compat import apply_workarounds
from repfusion_mm.version import __version__

apply_workarounds()

__all__ = ['__version__']
