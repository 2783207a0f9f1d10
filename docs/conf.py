"""Settings of the documentation's site; `make docs` builds it."""

from repfusion_mm import __version__

project = 'repfusion_mm'
author = 'The repfusion_mm contributors'
release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.apidoc',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build', 'api/modules.rst']
html_theme = 'alabaster'
html_theme_options = {
    'description': 'Diffusion models as teachers, for OpenMMLab',
    'fixed_sidebar': True,
    'page_width': '1100px',
    'sidebar_width': '260px',
}

napoleon_use_ivar = True

myst_enable_extensions = ['deflist']
myst_heading_anchors = 3

# The API reference is written from the docstrings into docs/api.
apidoc_modules = [
    {
        'path': '../repfusion_mm',
        'destination': 'api',
        'module_first': True,
        'automodule_options': {'members', 'show-inheritance'},
    }
]
# Each class appears in its own module, not in every package that exports it.
autodoc_default_options = {'ignore-module-all': True}
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
