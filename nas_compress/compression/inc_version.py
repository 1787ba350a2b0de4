"""Which Intel Neural Compressor (INC) is installed; looked up without importing it."""

from __future__ import annotations

from importlib import metadata

from nas_compress.errors import MissingExtraError

DISTRIBUTIONS = ("neural-compressor-pt", "neural-compressor")
"""The distributions that INC 3.x for PyTorch comes in; either will do."""


def inc_version() -> dict[str, str]:
    """Return the version of INC by the name of its distribution.

    Raises:
        MissingExtraError: INC is not installed.
    """
    for name in DISTRIBUTIONS:
        try:
            return {name: metadata.version(name)}
        except metadata.PackageNotFoundError:
            continue
    raise MissingExtraError(DISTRIBUTIONS[0], "")
