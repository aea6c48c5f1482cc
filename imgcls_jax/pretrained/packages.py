"""A file of weights in an installed Python package: found by pip's records, verified by its hash,
never imported."""

import importlib.metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from imgcls_jax.errors import DataError
from imgcls_jax.pretrained.catalog import Weights
from imgcls_jax.pretrained.download import verify


def find(weights: Weights) -> Path:
    """The verified file. Raises DataError of one line, with the command that brings the file,
    where it is not there."""
    package = weights.package
    try:
        distribution = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"{weights.file_name} comes with the Python package {package.name}, which is not installed: "
            f"{package.command} brings it. A file of these weights may be given by its path, too."
        ) from None
    path, installed = (
        Path(distribution.locate_file(package.path)),
        f"{package.name} {distribution.version}",
    )
    if not _fits(distribution.version, package.versions):
        raise DataError(
            f"The Python package {installed} is installed, but {weights.file_name} ({weights.hash}) is that of "
            f"versions {package.versions}: {package.command} brings it."
        )
    repair = package.command.replace("install", "install --force-reinstall --no-deps")
    if not path.is_file():
        raise DataError(
            f"{path} is missing, which {installed} should have ({weights.hash}): {repair} brings it back."
        )
    try:
        wrong = verify(path, weights)
    except OSError as error:
        wrong = f"it cannot be read ({error.strerror}), and {weights.hash}"
    if wrong:
        raise DataError(
            f"{path} is not the file that {installed} should have: {wrong}. {repair} brings it back."
        )
    return path


def _fits(version: str | None, versions: str) -> bool:
    """Whether a version, as a package's records have it, is among those."""
    try:
        return SpecifierSet(versions).contains(Version(version), prereleases=True)
    except (InvalidVersion, TypeError):  # damaged records
        return False


def status(weights: Weights) -> str:
    """Whether the file is there, and else what brings it."""
    try:
        find(weights)
    except DataError as error:
        return str(error)
    return "in package"
