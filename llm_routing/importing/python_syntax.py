"""Inspects the syntax tree of a Python file with mappings, and reports the parts that are not read.

`python_source` evaluates the expressions.
"""

import ast
import re
from collections.abc import Set
from typing import Final

from .plan import Draft
from .text import CLEAR, looks_secret, names_secret

MAPPING_NAME: Final = re.compile(
    r"^_*(?:(?:MODEL|USE_?CASE|ROUT|TIER|DEFAULT|LLM|CUSTOM|STATIC).*)?MAPPINGS?$|^_*MODEL_MAP$|^USE_CASE_MODELS$|^MODELS_BY_USE_CASE$|^MODEL_ROUT(?:ES|ING)$"
    r"|^ROUT(?:ES|ING_TABLE)$",
    re.IGNORECASE,
)


def skip_unread_mappings(draft: Draft, tree: ast.Module, read: Set[ast.AST]) -> None:
    """Reports mappings that are built conditionally or step by step; `read` are the statements that
    were read."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets) if node not in read:
                names = [last_name(target) for target in targets]
            case ast.AnnAssign(target=target, value=ast.expr()) if node not in read:
                names = [last_name(target)]
            case ast.AugAssign(target=target):
                names = [last_name(target)]
            case _:
                continue
        for name in names:
            if MAPPING_NAME.search(name):
                draft.skip(f"{name} (line {node.lineno})", "it depends on code that runs before it")


def skip_secrets(draft: Draft, tree: ast.Module) -> None:
    """Reports every key anywhere in the file, without repeating it."""
    for node in ast.walk(tree):
        named: list[tuple[str, ast.expr | None]] = []
        match node:
            case ast.Constant(value=str() as text) if looks_secret(text):
                draft.skip(f"line {node.lineno}", CLEAR)
            case ast.Assign(targets=targets, value=value):
                named = [(last_name(target), value) for target in targets]
            case ast.AnnAssign(target=target, value=value):
                named = [(last_name(target), value)]
            case ast.keyword(arg=str() as name, value=value):
                named = [(name, value)]
            case ast.Dict(keys=keys, values=values):
                named = [
                    (str(key.value), value)
                    for key, value in zip(keys, values, strict=True)
                    if isinstance(key, ast.Constant)
                ]
        for name, value in named:
            match value:
                case ast.Constant(value=str() as text) if text and names_secret(name):
                    draft.skip(f"line {value.lineno}", CLEAR)


def is_lookup(node: ast.AST) -> bool:
    """Returns whether it reads an entry of a mapping within a function: `mapping =
    MODEL_MAPPINGS[use_case][tier]` or `mapping = self.get_mapping(…)`."""
    match node:
        case ast.Assign(targets=[ast.Name()], value=value):
            inner: ast.expr = value
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            inner = value
        case _:
            return False
    while True:
        match inner:
            case ast.Subscript(value=outer) | ast.Await(value=outer):
                inner = outer
            case ast.Call(func=ast.Attribute(value=outer, attr="get")):
                inner = outer
            case ast.Call(func=function):
                return re.search(r"[a-z]_mapping$", last_name(function)) is not None
            case _:
                return inner is not value and MAPPING_NAME.search(last_name(inner)) is not None


def is_variable(node: ast.expr) -> bool:
    """Returns whether it is `os.getenv(…)` or `os.environ.get(…)`."""
    match node:
        case ast.Call(func=ast.Attribute(attr="get", value=owner)):
            return last_name(owner) == "environ"
        case ast.Call(func=function):
            return last_name(function) == "getenv"
    return False


def last_name(node: ast.expr) -> str:
    """Returns `b` of `a.b`, or a plain name; empty for other expressions."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
