"""Files of weights in installed Python packages, which are never imported.

A file is found by the records that pip keeps, and verified by its hash.
"""

import importlib.metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from imgcls_jax.errors import DataError
from imgcls_jax.pretrained.catalog import Weights
from imgcls_jax.pretrained.download import verify

INSTALLED = "in package"


def find(weights: Weights) -> Path:
    """Returns the verified file.

    Raises DataError of one line, with the command that installs the file, if it is not there.
    """
    package = weights.package
    try:
        distribution = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"{weights.file_name} is part of the Python package {package.name}, which is not "
            f"installed: {package.command} brings it. Or give the path of a file of these weights."
        ) from None
    installed = f"{package.name} {distribution.version}"
    if not _fits(distribution.version, package.versions):
        raise DataError(
            f"The Python package {installed} is installed, but {weights.file_name} "
            f"({weights.hash}) is part of versions {package.versions}: {package.command} brings it."
        )

    path = Path(distribution.locate_file(package.path))
    repair = package.command.replace("install", "install --force-reinstall --no-deps")
    if not path.is_file():
        raise DataError(
            f"{path} is missing, which {installed} should have ({weights.hash}): "
            f"{repair} brings it back."
        )
    problem = _problem(path, weights)
    if problem:
        raise DataError(
            f"{path} is not the file that {installed} should have: {problem}. "
            f"{repair} brings it back."
        )
    return path


def _problem(path: Path, weights: Weights) -> str:
    """What is wrong with the file; the empty string if nothing is."""
    try:
        return verify(path, weights)
    except OSError as error:
        return f"it cannot be read ({error.strerror}), and {weights.hash}"


def _fits(version: str | None, versions: str) -> bool:
    """Whether a version from a package's records is one of `versions`."""
    try:
        return SpecifierSet(versions).contains(Version(version), prereleases=True)
    except (InvalidVersion, TypeError):  # the records are damaged
        return False


def status(weights: Weights) -> str:
    """Returns INSTALLED, or what is wrong and which command repairs it."""
    try:
        find(weights)
    except DataError as error:
        return str(error)
    return INSTALLED
