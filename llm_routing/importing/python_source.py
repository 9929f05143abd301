"""Reads mappings from a Python file without running it.

Only the syntax tree is used. Literals are taken as they are, names by the file's assignments,
enumeration members by their name (or by the value in the file's own class), constructor calls as
dictionaries. Nothing else is evaluated.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .plan import Draft
from .python_syntax import (
    MAPPING_NAME,
    is_lookup,
    is_variable,
    last_name,
    skip_secrets,
    skip_unread_mappings,
)
from .text import (
    ENVIRONMENT,
    MAX_VALUES,
    CannotRead,
    bounded,
    is_placeholder,
    looks_secret,
    names_secret,
    shown,
)

# The field order of the old router's class, for files that only import it.
_KNOWN_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ModelMapping": (
        "primary_model", "tier", "fallback_models", "max_tokens", "temperature", "system_prompt",
    )
}  # fmt: skip
_NUMBERS: Final[Mapping[str, type[int | float]]] = {"int": int, "float": float}
_CONTAINERS: Final = {"list": list, "tuple": list, "set": list, "frozenset": list, "dict": dict}


class _Unreadable(Exception):
    """An expression whose value needs running the file."""


@dataclass(slots=True)
class _Class:
    """A class of the file: its members' values, its annotated fields and their defaults."""

    members: dict[str, Any] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    defaults: dict[str, Any] = field(default_factory=dict)


def read_python(draft: Draft, text: str) -> list[tuple[str, Any]]:
    """Returns the mappings of a file by name, and reports what cannot be read in the draft. Raises
    `CannotRead`."""
    try:
        tree = ast.parse(text)
        return _Reader(draft, tree).mappings()
    except SyntaxError as error:
        raise CannotRead(f"It is not valid Python: line {error.lineno} cannot be read.") from None
    except (ValueError, RecursionError, MemoryError):
        raise CannotRead("It is not valid Python.") from None


class _Reader:
    """One file."""

    def __init__(self, draft: Draft, tree: ast.Module) -> None:
        self._draft = draft
        self._tree = tree
        self._names: dict[str, Any] = {}
        self._classes: dict[str, _Class] = {}
        self._found: dict[str, Any] = {}
        self._seen: set[ast.AST] = set()
        self._left = MAX_VALUES

    def mappings(self) -> list[tuple[str, Any]]:
        """Returns every mapping, including later changes by the file."""
        skip_secrets(self._draft, self._tree)
        self._body(self._tree.body)
        skip_unread_mappings(self._draft, self._tree, self._seen)
        return [(name, bounded(value)) for name, value in self._found.items()]

    def _body(self, statements: list[ast.stmt], owner: _Class | None = None) -> None:
        for statement in statements:
            if statement in self._seen:
                continue
            match statement:
                case ast.ClassDef():
                    inner = self._classes.setdefault(statement.name, _Class())
                    self._body(statement.body, inner)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self._seen.update(filter(is_lookup, ast.walk(statement)))
                    self._body(statement.body)
                case ast.Assign(targets=[ast.Name() | ast.Attribute() as target], value=value):
                    self._assign(last_name(target), value, owner, statement)
                case ast.AnnAssign(target=ast.Name() | ast.Attribute() as target, value=value):
                    if owner is not None:
                        owner.fields.append(last_name(target))
                    if value is not None:
                        self._assign(last_name(target), value, owner, statement)
                case ast.Assign(targets=[ast.Subscript() as target], value=value):
                    self._set_item(target, value, statement.lineno)
                case ast.Expr(value=ast.Call() as call):
                    self._update(call)
                case _:
                    pass

    def _assign(
        self, name: str, value: ast.expr, owner: _Class | None, statement: ast.stmt
    ) -> None:
        self._seen.add(statement)
        line = statement.lineno
        is_mapping = MAPPING_NAME.search(name) is not None
        try:
            read = self._value(value, at=name if is_mapping else "")
        except _Unreadable as error:
            if is_mapping:
                self._draft.skip(f"{name} (line {line})", str(error))
            return
        if owner is not None:
            owner.members[name] = owner.defaults[name] = read
        self._names[name] = read
        if is_mapping and isinstance(read, dict | list):
            self._found[name] = read
        elif name.isupper() and isinstance(read, dict) and read and owner is None:
            self._draft.skip(
                f"{name} (line {line})",
                "its name is not one of a mapping of use cases; it is not read",
            )

    def _set_item(self, target: ast.Subscript, value: ast.expr, line: int) -> None:
        """Reads `MAPPINGS[use_case] = …` and `MAPPINGS[use_case][tier] = …`."""
        path: list[ast.expr] = []
        inner: ast.expr = target
        while isinstance(inner, ast.Subscript):
            path.insert(0, inner.slice)
            inner = inner.value
        name = last_name(inner)
        if name not in self._found:
            return
        try:
            place = self._found[name]
            *keys, last = (self._key(part) for part in path)
            for key in keys:
                place = place.setdefault(key, {})
            place[last] = self._value(value, at=name)
        except (_Unreadable, AttributeError, TypeError, IndexError):
            self._draft.skip(f"{name} (line {line})", "this kind of change is not supported")

    def _update(self, call: ast.Call) -> None:
        """Reads `MAPPINGS.update({…})`; other calls change nothing that is read."""
        if not isinstance(call.func, ast.Attribute):
            return
        name = last_name(call.func.value)
        if name not in self._found:
            return
        try:
            if call.func.attr != "update" or len(call.args) != 1 or call.keywords:
                raise _Unreadable
            self._found[name].update(self._value(call.args[0], at=name))
        except (_Unreadable, AttributeError, TypeError, ValueError):
            self._draft.skip(f"{name} (line {call.lineno})", "this kind of change is not supported")

    def _value(self, node: ast.expr, at: str = "") -> Any:
        """Returns the value of an expression. Within a mapping (`at`), an unreadable part is left
        out and reported; elsewhere it raises."""
        read = self._read(node, at)
        if isinstance(read, str | list | dict):
            # `A = A + A`, line after line, would double the values in memory.
            self._left -= 1 + len(read) // (100 if isinstance(read, str) else 1)
            if self._left < 0:
                raise CannotRead("It contains more values than a configuration has.")
        return read

    def _read(self, node: ast.expr, at: str) -> Any:
        match node:
            case ast.Constant(value=value):
                if isinstance(value, bytes | complex) or value is ...:
                    raise _Unreadable("this is not a valid value")
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self._sum(self._value(left, at), self._value(right, at))
            case ast.Dict():
                return self._dict(node, at)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return list(self._items(items, at))
            case ast.Name(id=name):
                if name in self._names:
                    return self._names[name]
                raise _Unreadable(f"the file does not define {shown(name)}")
            case ast.Attribute():
                return self._member(node)
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id="os"), attr="environ")):
                return self._variable(str(self._value(node.slice)), None, node, at)
            case ast.BoolOp(op=ast.Or(), values=[ast.Call() as call, default]) if is_variable(call):
                return self._getenv(call, at, default)
            case ast.Call():
                return self._call(node, at)
            case _:
                raise _Unreadable("its value is computed when the file runs")

    def _sum(self, left: Any, right: Any) -> Any:
        if isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(left, list) and isinstance(right, list):
            return [*left, *right]
        raise _Unreadable("its value is computed when the file runs")

    def _items(self, items: list[ast.expr], at: str) -> Iterator[Any]:
        for item in items:
            try:
                if isinstance(item, ast.Starred):
                    yield from self._value(item.value, at)
                else:
                    yield self._value(item, at)
            except (_Unreadable, TypeError) as error:
                self._skip(at, item, error)

    def _dict(self, node: ast.Dict, at: str) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            inside = at
            try:
                if key is None:
                    found.update(self._value(value, at))
                    continue
                name = self._key(key)
                inside = f"{at}[{shown(name)}]" if at else ""
                if name in found and at:
                    self._draft.skip(
                        f"{inside} (line {key.lineno})",
                        "it is a duplicate; the later one wins, as in Python",
                    )
                found[name] = self._value(value, inside)
            except (_Unreadable, TypeError, ValueError) as error:
                self._skip(inside, value, error)
        return found

    def _skip(self, at: str, node: ast.expr, error: Exception) -> None:
        if not at:
            raise _Unreadable(str(error)) from None
        reason = str(error) if isinstance(error, _Unreadable) else "it cannot be read"
        self._draft.skip(f"{at} (line {node.lineno})", reason)

    def _key(self, node: ast.expr) -> Any:
        value = self._value(node)
        return tuple(str(part) for part in value) if isinstance(value, list) else str(value)

    def _member(self, node: ast.Attribute) -> Any:
        """Returns the value of `UseCase.DEBUGGING`: the one in the file's class, else its name in
        lower case, as is usual for string enumerations; a trailing `.value` changes nothing."""
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute) and inner.attr in ("value", "name"):
            inner = inner.value
        match inner:
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=member):
                known = self._classes.get(owner)
                if known is not None and member in known.members:
                    return known.members[member]
                if owner[:1].isupper():
                    return member.lower()
        raise _Unreadable("it is looked up when the file runs")

    def _call(self, node: ast.Call, at: str) -> Any:
        name = last_name(node.func)
        if is_variable(node):
            return self._getenv(node, at)
        if name in _NUMBERS and len(node.args) == 1:
            return self._number(name, self._value(node.args[0], at))
        if name in _CONTAINERS:
            return self._container(node, name, at)
        if not name[:1].isupper():
            raise _Unreadable("its value is computed when the file runs")
        return self._construct(node, name, at)

    def _getenv(self, node: ast.Call, at: str, default: ast.expr | None = None) -> Any:
        """Reads `os.getenv("NAME", "default")`, or `os.getenv("NAME") or default`."""
        given = [*node.args, *(word.value for word in node.keywords if word.arg == "default")]
        if not given:
            raise _Unreadable("its value is computed when the file runs")
        default = given[1] if len(given) > 1 else default
        value = None if default is None else self._value(default, at)
        return self._variable(str(self._value(given[0])), value, node, at)

    def _variable(self, name: str, default: Any, node: ast.expr, at: str) -> Any:
        """Returns the current value of an environment variable, else its default; reports which. A
        secret stays a reference, `os.environ/NAME` as LiteLLM writes it; its default is
        reported."""
        where = f"{at} (line {node.lineno})" if at else f"line {node.lineno}"
        value = self._draft.environ.get(name)
        if names_secret(name) or looks_secret(value or ""):
            if isinstance(default, str) and not is_placeholder(default):
                self._draft.skip(
                    where, f"the default of {shown(name)} is not imported; set {shown(name)}"
                )
            return ENVIRONMENT + name
        if value is not None:
            self._draft.note(
                where, f"{shown(name)} is imported with its current value: {shown(value)}"
            )
            return value
        if default is None:
            return ENVIRONMENT + name
        self._draft.note(
            where, f"{shown(name)} is not set, so its default is used: {shown(default)}"
        )
        return default

    def _number(self, name: str, value: Any) -> int | float:
        """Reads `int(…)` or `float(…)` of a known value."""
        try:
            return _NUMBERS[name](value)
        except (TypeError, ValueError, OverflowError):
            raise _Unreadable("its value is computed when the file runs") from None

    def _container(self, node: ast.Call, name: str, at: str) -> Any:
        inner = self._value(node.args[0], at) if node.args else _CONTAINERS[name]()
        if name == "dict":
            pairs = {word.arg: self._value(word.value, at) for word in node.keywords if word.arg}
            return {**inner, **pairs} if isinstance(inner, dict) else pairs
        return list(inner)

    def _construct(self, node: ast.Call, name: str, at: str) -> dict[str, Any]:
        """Reads `ModelMapping(…)` as a dictionary, with the defaults of the file's own class."""
        known = self._classes.get(name, _Class())
        names = known.fields or _KNOWN_FIELDS.get(name, ("model",))
        found = {field: known.defaults[field] for field in known.fields if field in known.defaults}
        for number, item in enumerate(node.args):
            if number < len(names) and not isinstance(item, ast.Starred):
                self._take(found, names[number], item, at)
            else:
                self._skip(at, item, _Unreadable(f"the file does not define this field of {name}"))
        for word in node.keywords:
            if word.arg is None:
                found.update(self._value(word.value, at))
            else:
                self._take(found, word.arg, word.value, at)
        return found

    def _take(self, found: dict[str, Any], name: str, node: ast.expr, at: str) -> None:
        try:
            found[name] = self._value(node, at)
        except _Unreadable as error:
            found.pop(name, None)
            self._skip(f"{at}.{name}" if at else "", node, error)
