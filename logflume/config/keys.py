"""How a key is declared: type, bounds, default and meaning, once for checks, messages and documents."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, PydanticUndefined, core_schema

from logflume import units
from logflume.masks import MASK, is_secret


class Table(BaseModel):
    """A TOML table: frozen, and strict about keys and types."""

    # inputs hidden: the text of an error of pydantic's own must not show a password
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Text:
    """A value given as text that means something else; goes into ``Annotated`` beside the Python type.

    ``parse`` raises ValueError with what would be right. ``kind`` is for documents.
    """

    kind: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    #: what TOML may give; a date is not text there
    accepts: tuple[type, ...] = (str,)

    def _read(self, value: object) -> Any:
        if not isinstance(value, self.accepts):
            raise ValueError(f"must be in quotes: {self.kind}")
        try:
            return self.parse(value)
        except ValueError as wrong:
            raise ValueError(f"must be {wrong}") from None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        show = core_schema.plain_serializer_function_ser_schema(self.show, when_used="json")
        return core_schema.no_info_plain_validator_function(self._read, serialization=show)


def duration(low: str, high: str) -> Text:
    """Text such as ``10m``, kept in milliseconds."""
    return _bounded("duration", units.parse_duration, units.show_duration, low, high)


def size(low: str, high: str) -> Text:
    """Text such as ``128MiB``, kept in bytes."""
    return _bounded("size", units.parse_size, units.show_size, low, high)


def _bounded(kind: str, parse: Callable[[str], int], show: Callable[[int], str], low: str, high: str) -> Text:
    wanted = f"{kind}, {low} to {high}"

    def within(text: str) -> int:
        try:
            number = parse(text)
        except ValueError as wrong:
            raise ValueError(f"a {wanted}: {wrong}") from None
        if not parse(low) <= number <= parse(high):
            raise ValueError(f"a {wanted}")
        return number

    return Text(wanted, within, show)


def matching(kind: str, pattern: str, wanted: str) -> Text:
    """Text that matches a regular expression as a whole."""

    def match(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(wanted)
        return text

    return Text(kind, match)


def key(default: Any, meaning: str, name: str | None = None) -> Any:
    """Declare a key: its default as TOML has it (``...``: none), its name where the attribute's differs."""
    return Field(default=default, alias=name, description=meaning, validate_default=True)


@dataclass(frozen=True, slots=True)
class KeyDoc:
    """One row of the table of keys."""

    key: str
    type: str
    default: str
    meaning: str


def document(section: str, table: type[Table]) -> list[KeyDoc]:
    """The keys of one table, those of a subclass before those it inherits."""
    inherited = {name for base in table.__bases__ if issubclass(base, Table) for name in base.model_fields}
    return [
        KeyDoc(
            key=f"{section}.{field.alias or name}",
            type=_type(field.annotation, field.metadata),
            default=_default(field),
            meaning=field.description or "",
        )
        for name, field in sorted(table.model_fields.items(), key=lambda item: item[0] in inherited)
    ]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "" if field.default in (None, PydanticUndefined) else json.dumps(field.default)


def _type(annotation: object, metadata: Iterable[object] = ()) -> str:
    bounds = {type(one): one for one in metadata}
    if isinstance(text := bounds.get(Text), Text):
        return text.kind
    if isinstance(low := bounds.get(Ge), Ge) and isinstance(high := bounds.get(Le), Le):
        return f"whole number, {low.ge} to {high.le}"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(json.dumps(value) for value in args)
    if origin is Annotated:
        return _type(args[0], args[1:])
    if type(None) in args:
        return _type(next(one for one in args if one is not type(None)))
    return "table" if origin is dict else "table or text"


# --- problems: each names the key, the value and what would be right -------------------------------


KeyPath = tuple[str | int, ...]
Problem = tuple[KeyPath, str]


class Wrong(ValueError):
    """Several problems at once: below the table being checked, which key, and what would be right."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems


def refuse(problems: Sequence[Problem]) -> None:
    """Raise Wrong if there are problems."""
    if problems:
        raise Wrong(problems)


def unknown(name: str, known: Iterable[str]) -> str:
    """The problem with a key that does not exist, and which one was probably meant."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown key; did you mean '{near[0]}'?" if near else "unknown key"


def shown(value: object) -> str:
    """A value as in the file, shortened, without the password of a URL."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | int | float) else str(value)
    text = re.sub(r"//[^/@]*@", f"//{MASK}@", text)
    return text if len(text) <= 80 else f"{text[:80]}…"


def key_names(table: type[Table]) -> set[str]:
    """The keys a table may have."""
    return {field.alias or name for name, field in table.model_fields.items()}


def explain(root: type[Table], error: ErrorDetails) -> list[str]:
    """The problems in one error of pydantic, each under its key in the file."""
    path, kind, value, context = error["loc"], error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        # without the value: under a misspelt key it may be a secret
        return [f"{_dotted(path)}: {unknown(str(path[-1]), key_names(_table_at(root, path[:-1])))}"]
    if kind == "missing":
        return [f"{_dotted(path)}: must be given"]
    if kind == "value_error" and isinstance(context["error"], Wrong):
        return [f"{_dotted(path + below)}: {problem}" for below, problem in context["error"].problems]
    if kind == "value_error":
        problem = str(context["error"])
    elif kind in _MUST_BE:
        problem = "must be " + _MUST_BE[kind].format(**context)
    else:
        problem = error["msg"].lower()
    secret = any(is_secret(str(step)) for step in path)
    given = "" if secret or value is None or isinstance(value, dict | list | tuple) else f" = {shown(value)}"
    return [f"{_dotted(path)}{given}: {problem}"]


# pydantic's kinds of error that its own words explain less well
_MUST_BE = {
    "string_type": "text in quotes; a name with dots must be in quotes, too",
    "int_type": "a whole number, without quotes",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "model_type": "a table",
    "dict_type": "a table",
    "tuple_type": "an array of tables, each begun by a line [[topic]]",
}


def _dotted(path: KeyPath) -> str:
    """``topic[0].lateness``; a name that has dots itself stands in quotes, as it must in TOML."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step != "*":
            text += ("." if text else "") + (step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else f'"{step}"')
    return text


def _table_at(root: type[Table], path: KeyPath) -> type[Table]:
    for step in path:
        for name, field in root.model_fields.items():
            if step == (field.alias or name):
                root = next(_tables_in(field.annotation), root)
    return root


def _tables_in(annotation: object) -> Iterator[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for one in get_args(annotation):
        yield from _tables_in(one)
