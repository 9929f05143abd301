"""The result of a discovery, as plain data and as JSON.

How it reads on a terminal or in the admin is their business.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """One provider. Every name is a model's identifier there.

    `models` is what it offers. `added` are new rows, inactive; `vanished` are rows that its list no
    longer has, `returned` those that it has again. `left_alone` are offered and have no row,
    because somebody removed or renamed it. Of a list that is not complete (`unreadable` entries,
    or more than is read) nothing is said to have vanished.

    A provider that failed has an `error`, a stable code, and a `message` for people.
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
    """The whole run. `is_recorded`: the rows were written, neither tried out nor left to nobody."""

    providers: tuple[ProviderReport, ...]
    is_dry_run: bool = False
    is_recorded: bool = True

    @property
    def failed(self) -> tuple[ProviderReport, ...]:
        """The providers whose list could not be had."""
        return tuple(row for row in self.providers if row.error)

    @property
    def models(self) -> Mapping[str, tuple[str, ...]]:
        """The models of every provider that answered."""
        return {row.provider: row.models for row in self.providers if not row.error}

    def count(self, what: str) -> int:
        """The number of models in the field `what`: `added`, `vanished` or `returned`."""
        return sum(len(getattr(row, what)) for row in self.providers)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON can say it."""
        return {
            "dry_run": self.is_dry_run,
            "changed": any(self.count(what) for what in ("added", "vanished", "returned")),
            "providers": [asdict(row) for row in self.providers],
        }
