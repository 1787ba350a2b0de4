"""Names for what users choose by name: supernets, objectives, strategies, backends, data sources."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nas_compress.errors import ConfigError, UnknownNameError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        target: The object, or `"module:attribute"`, imported at first use so that listing names costs nothing.
        summary: One line for `nas-compress list`.
        info: Facts that must be known without importing the target.
    """

    target: Any
    summary: str
    info: Mapping[str, Any] = field(default_factory=dict)


class Registry(Generic[T]):
    """A mapping from names to lazily imported objects.

    Args:
        kind: What the names stand for, in the singular, for error messages.
        entries: The built-in entries.
        aliases: Other spellings of registered names (those of INC and DyNAS-T, say).
        defaults: What `info` says of entries that are registered without it.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, Entry] | None = None,
        aliases: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self._defaults = dict(defaults or {})
        self._entries = dict(entries or {})
        self._aliases = dict(aliases or {})

    def register(self, name: str, summary: str = "", **info: Any) -> Callable[[T], T]:
        """Return a decorator that registers an object under `name`; a taken name raises `ConfigError`."""
        if name in self:
            raise ConfigError(f"the {self.kind} {name!r} is registered already")

        def add(target: T) -> T:
            doc = (getattr(target, "__doc__", None) or "").strip()
            self._entries[name] = Entry(target, summary or doc.partition("\n")[0], self._defaults | info)
            return target

        return add

    def canonical(self, name: str) -> str:
        """Return the registered spelling of `name`; unknown names raise `UnknownNameError`."""
        name = self._aliases.get(name, name)
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return name

    def entry(self, name: str) -> Entry:
        """Return the entry of `name` without importing its target."""
        return self._entries[self.canonical(name)]

    def get(self, name: str) -> T:
        """Return the object that `name` stands for, importing it if need be."""
        target = self.entry(name).target
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = getattr(importlib.import_module(module), attribute)
        resolved: T = target
        return resolved

    def __contains__(self, name: str) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
