"""Writes the providers of a plan; see `write` for the rules."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from llm_routing.conf import get_settings
from llm_routing.configuration.credentials import find_key
from llm_routing.models import Provider
from llm_routing.models.provenance import last_written_by, save, with_change_reason
from llm_routing.setup.report import Action
from llm_routing.setup.state import wanting
from llm_routing.vendors import VENDORS

from .outcome import Outcome
from .plan import PlannedProvider
from .rows import OURS, REASON, removed_since


class ProviderWriter:
    """Writes providers, inside the transaction of the import."""

    def __init__(
        self, outcome: Outcome, environ: Mapping[str, str], *, store_keys: bool, source: str
    ) -> None:
        self._outcome = outcome
        self._environ = environ
        self._store_keys = store_keys
        self._source = source

    def write(self, providers: Iterable[PlannedProvider]) -> dict[str, Provider]:
        """Writes the plan's providers. Returns their rows by the plan's names."""
        present = {row.name: row for row in Provider.objects.all()}
        ours = last_written_by(Provider, OURS)
        removed = removed_since(Provider, lambda entry: entry.name)
        found = {}
        for planned in map(_placed, providers):
            row = present.get(planned.name)
            if row is None:
                if planned.name in removed:
                    self._outcome.conflict(
                        "provider", planned.name, "it was removed after an earlier import"
                    )
                    continue
                row = self._create(planned)
                if row is None:
                    continue
            elif not self._fits(row, planned, row.pk in ours):
                continue
            found[planned.name] = row
        return found

    def _create(self, planned: PlannedProvider) -> Provider | None:
        row = Provider(
            name=planned.name,
            vendor=planned.vendor,
            base_url=planned.base_url,
            api_key_env=planned.api_key_env,
            notes=f"Imported from a file: {self._source}.",
        )
        self._take_key(row, planned)
        if not self._outcome.is_valid("provider", planned.name, row):
            return None
        row.is_active = self._is_usable(row)
        Provider.objects.bulk_create(with_change_reason([row], REASON))
        reason = "" if row.is_active else f"inactive: {self._wanting(row)}"
        self._outcome.change("provider", row.name, Action.CREATED, reason)
        return row

    def _fits(self, row: Provider, planned: PlannedProvider, is_ours: bool) -> bool:
        """Returns whether a row matches the planned provider now; reports a conflict otherwise."""
        differs = [
            name
            for name, wanted in (
                ("vendor", planned.vendor),
                ("base_url", planned.base_url),
                ("api_key_env", planned.api_key_env),
            )
            if self._effective(row, name) != self._effective(planned, name)
        ]
        if differs and not (is_ours and "vendor" not in differs):
            self._outcome.conflict(
                "provider",
                row.name,
                f"it has a different {' and '.join(differs)}; it and its models stay",
            )
            return False
        changed = list(differs)
        for name in differs:
            setattr(row, name, getattr(planned, name))
        if is_ours and self._take_key(row, planned):
            changed += ["encrypted_key", "key_changed_at"]
        if changed:
            if not self._outcome.is_valid("provider", row.name, row):
                return False
            save(row, *changed, reason=REASON)
            self._outcome.change("provider", row.name, Action.UPDATED, ", ".join(changed))
        if not row.is_active and is_ours and self._is_usable(row):
            row.is_active = True
            save(row, "is_active", reason=REASON)
            self._outcome.change("provider", row.name, Action.ACTIVATED)
        elif not row.is_active:
            reason = self._wanting(row) if is_ours else "an operator deactivated it"
            self._outcome.note("provider", row.name, f"it is inactive: {reason}")
        elif not changed:
            self._outcome.unchanged += 1
        return True

    def _take_key(self, row: Provider, planned: PlannedProvider) -> bool:
        """Returns whether the row now holds the key from the file."""
        if not self._store_keys or planned.secret is None or row.has_stored_key:
            return False
        try:
            row.set_api_key(planned.secret.get_secret_value())
        except ValueError as error:
            self._outcome.conflict("provider", planned.name, str(error))
            return False
        return True

    def _effective(self, row: Provider | PlannedProvider, name: str) -> str:
        value = str(getattr(row, name))
        vendor = VENDORS.get(row.vendor)
        if vendor is None or name == "vendor":
            return value
        if name == "base_url":
            return (value or vendor.base_url).rstrip("/")
        return value or vendor.api_key_env

    def _is_usable(self, row: Provider) -> bool:
        return not VENDORS[row.vendor].needs_key or bool(find_key(row, self._environ).value)

    def _wanting(self, row: Provider) -> str:
        if row.api_key_env:
            return f"{row.api_key_env} is not set"
        return wanting(VENDORS[row.vendor])


def _placed(planned: PlannedProvider) -> PlannedProvider:
    """Returns the provider, with the address from the settings if it is the sandbox."""
    if not VENDORS[planned.vendor].is_sandbox or planned.base_url:
        return planned
    return replace(planned, base_url=get_settings().provider_base_url(VENDORS["sandbox"]))
