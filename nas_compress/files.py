"""Writing files so that they appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas_compress.errors import ConfigError, OutputError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces it if the block succeeds and is removed if not.

    The folder is made if need be, and the contents are on disk before the name points at them.

    Raises:
        OutputError: The folder or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode  # what the umask grants; some writers make files private
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_image(path: Path, field: str) -> None:
    """Check the suffix of a file that a plot is to be saved in.

    Raises:
        ConfigError: It is none of an image.
    """
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"{field}: {str(path)!r} has no suffix of an image; allowed: .png, .pdf, .svg")


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep a folder, which is made if need be, from other processes that ask for it, as long as the block runs.

    The lock is the operating system's: it ends with the process, however that ends. A file system without
    locks gives none.

    Raises:
        ConfigError: Another process has it.
        OutputError: The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        _lock(opened, folder)
        yield
    finally:
        os.close(opened)


def _lock(opened: int, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"another run is at work in {folder}; wait for its end, or give another folder") from None
    except OSError:
        return  # a file system without locks
