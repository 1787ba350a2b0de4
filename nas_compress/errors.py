"""The errors a user can cause, each with a message that says what to change.

Everything derives from `NASError`; the command line prints its message and exits with code 2. Any other
exception that escapes the package is a defect of the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NASError(Exception):
    """Base of every error that a user of the package can cause and can mend."""


class ConfigError(NASError):
    """A configuration, recipe or command-line value that cannot be used."""


class UnknownNameError(ConfigError):
    """A name that no registry holds.

    Args:
        kind: What the name stands for, in the singular (`"supernet"`).
        name: The name that was asked for.
        known: The names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        super().__init__(f"unknown {kind} {name!r}{suggest(name, known)}; known: {', '.join(known)}")


class ArchitectureError(NASError):
    """An architecture that is not a point of its search space; the message names the gene."""


class InfeasibleError(NASError):
    """Constraints that no architecture (found in a bounded number of tries) meets."""


class CheckpointError(NASError):
    """A checkpoint that is missing, damaged, or of another network."""


class DataError(NASError):
    """A dataset that is missing, damaged, or of another kind than the task needs."""


class ArchiveError(NASError):
    """A search archive or results table that is damaged or belongs to another search."""


class OutputError(NASError):
    """A file that cannot be written: a full disk, a missing permission."""


class EvaluationError(NASError):
    """A candidate that could not be measured; the search records it as failed and goes on."""


class TrainingError(NASError):
    """Training that diverged; the message says where and what to lower."""


class MissingExtraError(NASError):
    """An optional package that is not installed, or not in the version that is needed.

    Args:
        package: The distribution's name.
        extra: The extra of this package that installs it; empty where a plain install does.
        reason: What is wrong, when it is not plainly missing.
    """

    def __init__(self, package: str, extra: str, reason: str = "is not installed") -> None:
        target = f"'.[{extra}]'" if extra else "."
        super().__init__(f"{package} {reason}; install it with: pip install {target} (in nas-compress's source folder)")


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, or the name of its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
