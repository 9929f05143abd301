"""The result of a discovery, as plain data and as JSON.

Commands and admin pages decide how to show it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """One provider. All names are model identifiers.

    `models` are those it offers. `added` are new rows, inactive; `vanished` are rows missing from
    the list, `returned` those that it lists again. `left_alone` are offered models without a row,
    because an operator removed or renamed it. An incomplete list (`unreadable` entries, or more
    than the limit) marks nothing as vanished.

    A failed provider has an `error`, a stable code, and a `message` for people.
    """

    provider: str
    models: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()
    unreadable: int = 0
    is_complete: bool = True
    error: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class DiscoveryReport:
    """The whole run. `is_recorded`: the rows were written; False for a dry run and for a
    configuration without a database."""

    providers: tuple[ProviderReport, ...]
    is_dry_run: bool = False
    is_recorded: bool = True

    @property
    def failed(self) -> tuple[ProviderReport, ...]:
        """The providers whose list could not be read."""
        return tuple(row for row in self.providers if row.error)

    @property
    def models(self) -> Mapping[str, tuple[str, ...]]:
        """The models of every provider that answered."""
        return {row.provider: row.models for row in self.providers if not row.error}

    def count(self, what: str) -> int:
        """Returns the number of models in the field `what`: `added`, `vanished` or `returned`."""
        return sum(len(getattr(row, what)) for row in self.providers)

    def as_json(self) -> dict[str, Any]:
        """Returns the report as JSON-serializable data."""
        return {
            "dry_run": self.is_dry_run,
            "changed": any(self.count(what) for what in ("added", "vanished", "returned")),
            "providers": [asdict(row) for row in self.providers],
        }
