"""JSON Schemas of an app's own: read strictly, so that none takes longer than its value is large, and values checked against them.

The dialect is draft 2020-12 without what would read other files or could take exponential time: `$ref` leads to `#/$defs/<name>` alone
and never in a circle, patterns are those of an engine that needs no backtracking. A keyword that is not known is a mistake, not a wish.
`format` describes and checks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from service.errors import TooLarge
from service.models import JSON

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ABOUT = frozenset({"$schema", "$id"})
ANNOTATIONS = frozenset("$comment title description default examples deprecated readOnly writeOnly format".split())
ONE = frozenset("additionalProperties propertyNames items contains not if then else".split())
LISTS = frozenset("prefixItems allOf anyOf oneOf".split())
MAPS = frozenset("properties patternProperties dependentSchemas".split())
PLAIN = frozenset(
    """type enum const multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern maxItems minItems
    uniqueItems maxContains minContains maxProperties minProperties required dependentRequired""".split()
)
KEYWORDS = {"$ref", "$defs"} | ANNOTATIONS | ONE | LISTS | MAPS | PLAIN
REFERENCE = re.compile(r"#/\$defs/([A-Za-z0-9_.-]{1,100})")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

MAX_BYTES = 100_000
MAX_DEPTH = 48
MAX_VALUE_DEPTH = 32
MAX_WEIGHT = 2_000
"""Parts of a schema, as `Measure` counts them."""

MAX_REGEX_BYTES = 200_000
"""Of a compiled pattern."""

MAX_WORK = 20_000_000
"""Weight of the schema times the parts of a value; about half a second."""

MAX_EXPLAINED = 100_000
MAX_EXPLAINED_CHARS = 100_000
"""Beyond that work, or text, it is not told where a value does not fit: that takes many times as long as to see that it does not."""

MAX_FAULTS = 20
MAX_TOLD = 300
MAX_PLACE = 100


class SchemaError(Exception):
    """A schema does not hold; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a value at a place. Both are made of the schema's words alone, never of the value's."""

    path: str
    problem: str


class Measure(NamedTuple):
    """Of a schema with every `$ref` written out: its parts, with the names and values that they list, and how deep it is nested."""

    weight: int
    height: int


class Schema:
    """A schema that holds: `value` is what it says, without what names the schema itself."""

    def __init__(self, value: dict[str, JSON]) -> None:
        """Raises `SchemaError`."""
        if value.get("$schema", DIALECT) != DIALECT:
            raise SchemaError(f'`$schema` names another dialect. Remove it, or write "{DIALECT}".')
        self.value: dict[str, JSON] = {key: part for key, part in value.items() if key not in ABOUT}
        if self.value.get("type") != "object":
            raise SchemaError('The root is not `"type": "object"`. Make it one.')
        reader = Reader(self.value)
        self.weight = reader.weight()
        if self.weight > MAX_WEIGHT:
            raise SchemaError(f"With every `$ref` written out it has more than {MAX_WEIGHT} parts. Make it smaller.")
        self.names = frozenset(reader.names)
        self.strict = reader.strict
        """Whether it is of the form that providers demand of a schema that they hold a model to."""

        self.text = msgspec.json.encode(self.value).decode()
        self._validator = compiled(self.value)

    def declares(self, path: Sequence[str]) -> bool:
        """Whether the schema names a property at a path of names."""
        part: JSON = self.value
        for name in path:
            found = self._properties(part)
            if name not in found:
                return False
            part = found[name]
        return True

    def faults(self, value: JSON) -> list[Fault]:
        """Say what is wrong with a value, at most `MAX_FAULTS` things; none is a value that fits. Raises `TooLarge`."""
        parts, characters, depth = size(value)
        if depth > MAX_VALUE_DEPTH:
            return [Fault("$", f"is nested deeper than {MAX_VALUE_DEPTH}")]
        work = parts * self.weight
        if work > MAX_WORK:
            raise TooLarge("The value has too many parts to be checked. Send less at once.")
        if self._validator.is_valid(value):
            return []
        if work > MAX_EXPLAINED or characters > MAX_EXPLAINED_CHARS:
            return [Fault("$", "does not fit the schema; it is too large to say where")]
        found = dict.fromkeys(self._fault(error) for error in self._validator.iter_errors(value))
        return list(found)[:MAX_FAULTS]

    def _properties(self, part: JSON) -> Mapping[str, JSON]:
        while isinstance(part, dict) and "properties" not in part and isinstance(name := part.get("$ref"), str):
            part = referenced(self.value, name)
        found = part.get("properties") if isinstance(part, dict) else None
        return found if isinstance(found, dict) else {}

    def _fault(self, error: ValidationError) -> Fault:
        path = [*error.instance_path]
        kind = error.kind
        if kind.name == "required":
            path.append(str(kind.value))
        return Fault("$" + "".join(map(self._step, path)), explained(kind.name, kind.value))

    def _step(self, step: str | int) -> str:
        """One step of a path; a name that is not the schema's is the client's, and is not repeated."""
        if isinstance(step, int):
            return f"[{step}]"
        if step not in self.names:
            return ".*"
        return f".{step}" if NAME.fullmatch(step) else f"[{told(step)}]"


class Reader:
    """Looks through a schema once: what it weighs, which properties it names, whether it is strict."""

    def __init__(self, root: dict[str, JSON]) -> None:
        self._root = root
        self._measured: dict[str, Measure] = {}
        self._open: set[str] = set()
        self.names: set[str] = set()
        self.strict = True

    def weight(self) -> int:
        definitions = self._root.get("$defs", {})
        if not isinstance(definitions, dict):
            raise SchemaError("`$defs` is no object. Correct it.")
        for name in definitions:
            self._referenced(f"#/$defs/{name}", f"$defs.{name}", 0)
        return self._measure(self._root, "", 0).weight

    def _measure(self, part: JSON, where: str, depth: int) -> Measure:
        if isinstance(part, bool):
            return Measure(1, 1)
        if not isinstance(part, dict):
            raise SchemaError(f"`{short(where)}` is no schema. Make it an object, `true` or `false`.")
        check_height(depth, where)
        self._look_at(part, where)
        inner = [self._measure(child, place, depth + 1) for child, place in children(part, where)]
        if "$ref" in part:
            inner.append(self._referenced(part["$ref"], where, depth + 1))
        listed = sum(len(names) for key in ("required", "enum") if isinstance(names := part.get(key), list))
        height = 1 + max((each.height for each in inner), default=0)
        check_height(height, where)
        return Measure(1 + listed + sum(each.weight for each in inner), height)

    def _look_at(self, part: dict[str, JSON], where: str) -> None:
        for key in part:
            if key not in KEYWORDS or (key == "$defs" and where):
                raise SchemaError(
                    f"`{short(dotted(where, key))}` is not a keyword that schemas may have here. Remove it."
                )
        properties, required = part.get("properties"), part.get("required")
        names = set(properties) if isinstance(properties, dict) else set()
        listed = set(map(str, required)) if isinstance(required, list) else set()
        self.names |= names | listed
        if part.get("type") == "object" and (part.get("additionalProperties") is not False or listed != names):
            self.strict = False

    def _referenced(self, name: JSON, where: str, depth: int) -> Measure:
        """Measure what a `$ref` leads to, once."""
        if not isinstance(name, str) or not REFERENCE.fullmatch(name):
            raise SchemaError(
                f"`{short(where)}`: a `$ref` leads to `#/$defs/<name>` of the same file alone. Correct it."
            )
        if name in self._open:
            raise SchemaError(
                f"`{short(where)}`: the `$ref` {name} leads back to itself. Write the levels out that you need."
            )
        if name not in self._measured:
            found = referenced(self._root, name)
            if found is None:
                raise SchemaError(f"`{short(where)}`: the `$ref` {name} leads nowhere. Correct it.")
            self._open.add(name)
            self._measured[name] = self._measure(found, name.removeprefix("#/").replace("/", "."), depth)
            self._open.discard(name)
        return self._measured[name]


def read_schema(content: bytes) -> Schema:
    """Read a schema's file; raises `SchemaError`."""
    if len(content) > MAX_BYTES:
        raise SchemaError(f"It is larger than {MAX_BYTES} bytes. Make it smaller.")
    try:
        value = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        raise SchemaError("It is not valid JSON. Correct it.") from None
    if not isinstance(value, dict):
        raise SchemaError("It is no JSON object. Make it one.")
    return Schema(value)


def children(part: Mapping[str, JSON], where: str) -> Iterator[tuple[JSON, str]]:
    """The subschemas of a schema with their places, but for what `$ref` and `$defs` name."""
    for key, value in part.items():
        place = dotted(where, key)
        if key in ONE:
            yield value, place
        elif key in LISTS:
            if not isinstance(value, list):
                raise SchemaError(f"`{place}` is no list. Correct it.")
            yield from ((inner, f"{place}[{n}]") for n, inner in enumerate(value))
        elif key in MAPS:
            if not isinstance(value, dict):
                raise SchemaError(f"`{place}` is no object. Correct it.")
            yield from ((inner, dotted(place, name)) for name, inner in value.items())


def referenced(root: Mapping[str, JSON], name: str) -> JSON:
    """Return what a `$ref` leads to, or None."""
    definitions = root.get("$defs")
    return definitions.get(name.removeprefix("#/$defs/")) if isinstance(definitions, dict) else None


def check_height(height: int, where: str) -> None:
    if height > MAX_DEPTH:
        raise SchemaError(f"`{short(where)}`: it is nested deeper than {MAX_DEPTH}. Make the schema flatter.")


def short(where: str) -> str:
    return where if len(where) <= MAX_PLACE else where[:MAX_PLACE] + "…"


def dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def compiled(value: dict[str, JSON]) -> Draft202012Validator:
    """Make what checks values; imported when the first schema is read, for most apps have none."""
    from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError

    try:
        return Draft202012Validator(
            value,
            validate_formats=False,
            offline=True,
            pattern_options=RegexOptions(size_limit=MAX_REGEX_BYTES, dfa_size_limit=10 * MAX_REGEX_BYTES),
        )
    except ValidationError as error:
        place = ".".join(map(str, error.instance_path))
        if error.kind.name in ("format", "pattern", "propertyNames") or "regex" in error.message:
            raise SchemaError(
                f"`{short(place)}` is no pattern that can be used: no look-ahead, no look-behind, no back-reference, and no large repetition. "
                "Correct it."
            ) from None
        raise SchemaError(f"`{short(place)}` does not hold by JSON Schema 2020-12. Correct it.") from None
    except ValueError:
        raise SchemaError("It does not hold by JSON Schema 2020-12. Correct it.") from None


def size(value: JSON) -> tuple[int, int, int]:
    """Return how many parts a value has, how many characters its texts and names, and how deep it is nested."""
    parts = characters = depth = 0
    level: list[JSON] = [value]
    while level and depth <= MAX_VALUE_DEPTH:
        inner: list[JSON] = []
        for part in level:
            if isinstance(part, str):
                characters += len(part)
            elif isinstance(part, list):
                inner.extend(part)
            elif isinstance(part, dict):
                inner.extend(part.values())
                parts += len(part)
                characters += sum(map(len, part))
        parts += len(level)
        depth += any(isinstance(part, list | dict) for part in level)
        level = inner
    return parts, characters, depth


SENTENCES: dict[str, str] = {
    "required": "is missing",
    "type": "must be of the type {}",
    "enum": "must be one of {}",
    "const": "must be {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "pattern": "must match the pattern {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "uniqueItems": "must have no item twice",
    "contains": "lacks an item that it must contain",
    "minProperties": "must have at least {} fields",
    "maxProperties": "must have at most {} fields",
    "additionalProperties": "has a field that is not known",
    "propertyNames": "has a field whose name is not allowed",
    "anyOf": "fits none of the alternatives",
    "oneOf": "must fit one of the alternatives, and one alone",
    "not": "must not be of this form",
    "falseSchema": "is not allowed",
}
"""What a value does wrong by a keyword, with the keyword's own value from the schema."""

QUOTED = frozenset(key for key, sentence in SENTENCES.items() if "{}" in sentence)


def explained(keyword: str, value: Any) -> str:
    sentence = SENTENCES.get(keyword, f"does not hold by `{keyword}`")
    if keyword == "type":
        return sentence.format(" or ".join(value))
    return sentence.format(told(value)) if keyword in QUOTED else sentence


def told(value: object) -> str:
    """A value of the schema, as JSON that is no longer than a sentence may be."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_TOLD else "what the schema lists"
