"""What every configuration has in common: strict pydantic models whose errors name the field and what is allowed."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from nas_compress.errors import ConfigError, suggest

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration.

    Attributes:
        location: Keys and list positions that lead to the field, from the top of the document.
        message: The value and what is allowed.
    """

    location: Location
    message: str


@dataclass(frozen=True)
class Source:
    """The file that a configuration was read from.

    Attributes:
        path: The file.
        lines: Line of every key and list item, counted from 1.
    """

    path: Path
    lines: Mapping[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int | None:
        """Return the line of a field or, where the file does not have it, of the closest mapping around it."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return None


def config_error(problems: Sequence[Problem], source: Source | None = None) -> ConfigError:
    """Return one error that lists all problems, one a line, with file and line where they are known."""
    rows = [f"{_dotted(p.location)}: {p.message}" if p.location else p.message for p in problems]
    if source is not None:
        numbers = [source.line(p.location) for p in problems]
        if len(rows) == 1:
            return ConfigError(f"{source.path}{f', line {numbers[0]}' if numbers[0] else ''}: {rows[0]}")
        rows = [f"line {n}: {row}" if n else row for n, row in zip(numbers, rows, strict=True)]
    if len(rows) == 1:
        return ConfigError(rows[0])
    head = f"{source.path} has" if source is not None else "the configuration has"
    return ConfigError("\n  ".join([f"{head} {len(rows)} problems:", *rows]))


class Settings(BaseModel):
    """Base of all configuration sections: unknown keys and wrong values raise `ConfigError`, on assignment too.

    Attributes:
        where: Keys that lead to this section in a YAML document, for error messages.
        other_keys: Keys that a file may have instead of a field's name, with the JSON schema of their values.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=False)
    where: ClassVar[Location] = ()
    other_keys: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise config_error(problems_of(error, type(self), self.where)) from None

    # pydantic then validates nested sections without calling this constructor, so that one error lists all problems.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        known = [*type(self).model_fields, *_settable(type(self))]
        if not name.startswith("_") and name not in known:
            raise config_error([Problem((*self.where, name), _unknown_key(name, known))])
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise config_error(problems_of(error, type(self), self.where)) from None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        handler.resolve_ref_schema(described).setdefault("properties", {}).update(cls.other_keys)
        return described

    @field_validator("*", mode="before")
    @classmethod
    def _bool_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = set(_plain_types(annotation))
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, bool) for item in items) and kinds & {int, float} and bool not in kinds:
            raise ValueError(f"{show(value)} is not a number")
        return value

    @classmethod
    def parse(cls, data: object, location: Location = (), source: Source | None = None) -> Self:
        """Validate plain data as it comes out of a file.

        Args:
            data: The mapping of this section.
            location: Where in the file it stands.
            source: The file.

        Raises:
            ConfigError: Everything that is wrong with it, one problem a line.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise config_error(problems_of(error, cls, location), source) from None


def _plain_types(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation is made of, those of list items included."""
    yield annotation
    for argument in typing.get_args(annotation):
        yield from _plain_types(argument)


def _settable(cls: type[BaseModel]) -> list[str]:
    return [n for n in dir(cls) if isinstance(p := getattr(cls, n, None), property) and p.fset is not None]


def problems_of(error: ValidationError, model: type[BaseModel], location: Location = ()) -> list[Problem]:
    """Translate pydantic's errors about a `model` that stands at `location`."""
    return [
        Problem((*location, *item["loc"]), _message(item, model, location)) for item in error.errors(include_url=False)
    ]


_WANTED = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_": "a finite number",
    "bool_": "true or false",
    "string_": "text",
    "path_": "a path",
    "list_": "a list",
    "dict_": "a mapping (key: value)",
    "mapping_": "a mapping (key: value)",
    "model_": "a mapping (key: value)",
}
_BOUNDS = {
    "greater_than_equal": ("ge", ">="),
    "greater_than": ("gt", ">"),
    "less_than_equal": ("le", "<="),
    "less_than": ("lt", "<"),
}


def _message(item: Mapping[str, Any], model: type[BaseModel], location: Location) -> str:
    kind, loc, context = item["type"], item["loc"], item.get("ctx", {})
    if kind == "extra_forbidden":
        owner = _model_at(model, loc[:-1])
        homes = dict.fromkeys(_homes(model, str(loc[-1]), location))
        return _unknown_key(str(loc[-1]), owner.model_fields if owner else [], homes)
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(context["error"])
    shown = show(item["input"])
    if kind == "literal_error":
        expected = str(context["expected"])
        names = [part.strip("'") for part in expected.replace(" or ", ", ").split(", ")]
        return f"{shown} is not allowed{suggest(str(item['input']), names)}; allowed: {', '.join(names)}"
    if kind in _BOUNDS:
        key, sign = _BOUNDS[kind]
        return f"{shown} is not allowed; wants {sign} {context[key]}"
    if kind == "too_short":
        return f"{shown} is too short; wants at least {context['min_length']} item(s)"
    if kind == "string_pattern_mismatch":
        return f"{shown} is not allowed; wants letters, digits, '.', '_' and '-', the first a letter or a digit"
    if kind == "list_type" and isinstance(item["input"], str):
        return f"{shown} is not a list; write [{item['input']}]"
    for prefix, wanted in _WANTED.items():
        if kind.startswith(prefix):
            return f"{shown} is not {wanted}"
    return f"{shown}: {item['msg'].lower()}"


def _unknown_key(name: str, known: Iterable[str], homes: Iterable[Location] = ()) -> str:
    close = suggest(name, known)
    if places := ", ".join(_dotted(home) or "the top level" for home in homes):
        return f"unknown key here; it belongs to {places}"
    return f"unknown key{close}" if close else f"unknown key; known here: {', '.join(sorted(known))}"


def _homes(model: type[BaseModel], name: str, location: Location) -> Iterator[Location]:
    """Yield the sections, `model` itself and those inside, that do have a key."""
    if name in model.model_fields:
        yield location
    for key, info in model.model_fields.items():
        for inner in models_in(info.annotation):
            yield from _homes(inner, name, (*location, key))


def show(value: object) -> str:
    """Return a value as it stands in YAML, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """Return the class of the section at a location inside `model`."""
    found: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        if found is None or part not in found.model_fields:
            return None
        found = next(models_in(found.model_fields[part].annotation), None)
    return found


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the model classes that a type annotation mentions."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


def _dotted(location: Iterable[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _some_path(value: object) -> object:
    if value == "":
        raise ValueError("'' is not a path; write null for none")
    return value


Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
FilePath = Annotated[Path, BeforeValidator(_some_path), AfterValidator(Path.expanduser)]
