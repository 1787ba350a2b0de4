"""The layers of a network by name, and those that a user's patterns leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from nas_compress.errors import ConfigError, suggest


def excluded_layers(module: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Return the names of all parts of a network that patterns match, with everything inside of these.

    Args:
        module: The network.
        patterns: Names such as `4.spatial.0`, or shell patterns such as `4.*`.

    Raises:
        ConfigError: A pattern matches no part.
    """
    names = [name for name, _ in module.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"excluded_op_names: {pattern!r} matches no layer{suggest(pattern, names)}; some of the names: "
                f"{', '.join(names[:8])}"
            )
    return frozenset(name for name in names if any(_covers(pattern, name) for pattern in patterns))


def _covers(pattern: str, name: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:depth]), pattern) for depth in range(1, len(parts) + 1))
