"""YAML files: reading with line numbers, writing, and the templates that come with the package."""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from nas_compress.errors import ConfigError
from nas_compress.settings import Location, Source, show

_TEMPLATES = "nas_compress.yaml_templates"
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$")


class _Loader(yaml.SafeLoader):
    """Reads `2:4` as text, as YAML 1.2 does; YAML 1.1 takes it for the number 2 * 60 + 4."""

    yaml_implicit_resolvers = {
        first: [("tag:yaml.org,2002:str", _BASE_60), *known]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_document(path: str | Path) -> tuple[dict[str, Any], Source]:
    """Read a YAML (or JSON) file whose top level is a mapping.

    Returns:
        The data and where each key stands.

    Raises:
        ConfigError: The file is missing, not readable, not YAML, not a mapping, or holds a key twice.
    """
    path = Path(path)
    text = _read_text(path)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Location, int] = {}
        if node is not None:
            for location, line in _walk(node, (), path, set()):
                lines[location] = line
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {_explain(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds {show(data)}"
        raise ConfigError(f"{path} {found}; wants a YAML mapping (key: value)")
    return data, Source(path, lines)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder, not a YAML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not YAML: it is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _walk(node: yaml.Node, location: Location, path: Path, seen: set[int]) -> Iterator[tuple[Location, int]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise ConfigError(f"{path}, line {line}: {name!r} is given twice (first in line {lines[name]})")
            lines[name] = line
            yield (*location, name), line
            yield from _walk(value, (*location, name), path, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*location, index), value.start_mark.line + 1
            yield from _walk(value, (*location, index), path, seen)


def _explain(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
    return f"line {mark.line + 1}: {reason}" if mark else str(reason)


def write_document(data: Mapping[str, Any], path: str | Path) -> None:
    """Write plain data as YAML, keys in the given order.

    Raises:
        ConfigError: The file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump_document(data), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def dump_document(data: Mapping[str, Any]) -> str:
    """Return plain data as YAML text, keys in the given order, short lists on one line."""
    text: str = yaml.safe_dump(dict(data), sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return text


def template_names() -> list[str]:
    """Return the names of the templates that come with the package."""
    return sorted(_templates())


def template_text(name: str) -> str:
    """Return the text of a template.

    Raises:
        ConfigError: There is no such template.
    """
    return template_path(name).read_text(encoding="utf-8")


def template_path(name: str) -> Path:
    """Return the file of a template.

    Raises:
        ConfigError: There is no such template.
    """
    templates = _templates()
    if name not in templates:
        raise ConfigError(f"no template {name!r}{_close(name, templates)}; there are: {', '.join(sorted(templates))}")
    return templates[name]


def resolve_template(name_or_path: str | Path) -> Path:
    """Return the file that a template's name or a path stands for; an existing file wins over a template.

    Raises:
        ConfigError: It is neither.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    templates = _templates()
    if str(name_or_path) in templates:
        return templates[str(name_or_path)]
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a YAML file")
    close = _close(str(name_or_path), templates)
    raise ConfigError(f"no such file or template: {name_or_path}{close}; templates: {', '.join(sorted(templates))}")


def _close(name: str, templates: Mapping[str, Path]) -> str:
    close = difflib.get_close_matches(Path(name).stem, list(templates), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _templates() -> dict[str, Path]:
    """Find the templates of the installed package or, in a source checkout, of the folder beside it."""
    checkout = Path(__file__).resolve().parent.parent / "yaml_templates"
    try:
        folder = Path(str(importlib.resources.files(_TEMPLATES)))
    except ModuleNotFoundError:
        folder = checkout
    return {path.stem: path for path in folder.glob("*.yaml")} if folder.is_dir() else {}
