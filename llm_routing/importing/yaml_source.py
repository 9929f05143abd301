"""Parses YAML with PyYAML. Import this module only when needed: the extra `import` installs it."""

from collections.abc import Hashable
from typing import Any

import yaml

from .text import CannotRead


def read_yaml(text: str) -> Any:
    """Returns the document in `text`. Raises `CannotRead`, whose message quotes no content."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise CannotRead(f"It is not valid YAML: line {line} cannot be read.") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise CannotRead("It cannot be read.") from None


class _Loader(yaml.SafeLoader):
    """Constructs only YAML's own types and rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Like PyYAML's. Raises `CannotRead` for a duplicate key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise CannotRead(
                        f"One mapping has a duplicate name (line {key.start_mark.line + 1}), so a "
                        "value would be lost."
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)
