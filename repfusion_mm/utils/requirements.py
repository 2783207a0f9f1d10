"""Refuse dependencies of versions that this package does not support."""

from importlib import metadata

from packaging.requirements import Requirement


def check_requirements(package: str = 'repfusion_mm') -> None:
    """Compare installed versions with the requirements of a package.

    Packages that are installed later, or with ``--no-deps``, may not satisfy
    them; the errors that follow do not name the version that is needed.
    Nothing is known of packages that are not installed, and of a package
    that runs from its source without an installation.

    Raises:
        ImportError: The version of a dependency is not supported.
    """
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
