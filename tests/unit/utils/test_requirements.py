import sys
from importlib import metadata

import pytest

from repfusion_mm.utils.requirements import (
    check_diffusers,
    check_requirements,
)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs the metadata of a package."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, version, *requirements):
        folder = tmp_path / f'{name}-{version}.dist-info'
        folder.mkdir()
        lines = ['Metadata-Version: 2.1', f'Name: {name}']
        lines += [f'Version: {version}']
        lines += [f'Requires-Dist: {line}' for line in requirements]
        (folder / 'METADATA').write_text('\n'.join(lines) + '\n')

    return install


@pytest.mark.parametrize('found', ['0.31.0', '0.9', '0.32.0.dev0'])
def test_an_old_dependency_is_an_error_that_names_the_version(install, found):
    install('toy_denoisers', found)
    install('toy_plugin', '1.0', 'toy_denoisers>=0.32')
    with pytest.raises(ImportError) as error:
        check_requirements('toy_plugin')
    assert str(error.value) == (
        f'expected toy_denoisers>=0.32 for toy_plugin, got {found}; run: '
        "pip install 'toy_denoisers>=0.32'"
    )


@pytest.mark.parametrize('found', ['0.32.0', '0.33.0.dev0', '1.0+local'])
def test_a_dependency_of_a_supported_version_is_accepted(install, found):
    install('toy_denoisers', found)
    install('toy_plugin', '1.0', 'toy_denoisers>=0.32')
    check_requirements('toy_plugin')


def test_extras_and_packages_that_are_not_installed_are_not_checked(install):
    install('toy_denoisers', '0.1')
    other_python = f'python_version > "{sys.version_info[0] + 1}"'
    install(
        'toy_plugin',
        '1.0',
        'toy_denoisers>=0.32; extra == "augments"',
        f'toy_denoisers>=0.32; {other_python}',
        'toy_missing>=1',
    )
    check_requirements('toy_plugin')
    check_requirements('toy_missing')


def test_the_requirements_of_this_package_are_satisfied():
    assert metadata.requires('repfusion_mm')
    check_requirements()


@pytest.mark.parametrize(
    ('torch', 'diffusers', 'fits'),
    [
        ('2.1.0+cu118', '0.38.0', True),
        ('2.6.0', '0.42.1', True),
        ('2.5.1+cu121', '0.39.0', False),
    ],
)
def test_diffusers_must_import_with_torch(install, torch, diffusers, fits):
    """pip does not know which torch diffusers needs."""
    install('torch', torch)
    install('diffusers', diffusers)
    if fits:
        check_diffusers()
        return
    with pytest.raises(ImportError, match=r"install 'diffusers<0\.39'"):
        check_diffusers()
