"""RepFusion for OpenMMLab: diffusion models as teachers."""

from repfusion_mm.utils.requirements import check_requirements
from repfusion_mm.version import __version__

check_requirements()  # before the imports that fail with other versions

from repfusion_mm.utils.compat import apply_workarounds  # noqa: E402

apply_workarounds()

__all__ = ['__version__']
