"""Refuse dependencies of versions that this package does not support."""

from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version


def check_requirements(package: str = 'repfusion_mm') -> None:
    """Compare installed versions with the requirements of a package.

    Packages that are installed later, or with ``--no-deps``, may not satisfy
    them; the errors that follow do not name the version that is needed.
    Nothing is known of packages that are not installed, and of a package
    that runs from its source without an installation.

    Raises:
        ImportError: The version of a dependency is not supported.
    """
    check_diffusers()
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        needed = Requirement(line)
        if needed.marker and not needed.marker.evaluate({'extra': ''}):
            continue
        try:
            found = metadata.version(needed.name)
        except metadata.PackageNotFoundError:  # or a fork of another name
            continue
        if not needed.specifier.contains(found, prereleases=True):
            version = f'{needed.name}{needed.specifier}'
            raise ImportError(
                f'expected {version} for {package}, got {found}; run: '
                f"pip install '{version}'"
            )


def check_diffusers() -> None:
    """Refuse a version of diffusers that does not import with torch.

    It needs torch 2.6 since 0.39, which pip does not know.

    Raises:
        ImportError: diffusers is too new.
    """
    try:
        torch, diffusers = map(metadata.version, ('torch', 'diffusers'))
    except metadata.PackageNotFoundError:
        return
    if Version(torch) < Version('2.6') and Version(diffusers) >= Version(
        '0.39'
    ):
        raise ImportError(
            f'expected diffusers<0.39 with torch {torch}, got {diffusers}, '
            "which needs torch 2.6; run: pip install 'diffusers<0.39'"
        )
