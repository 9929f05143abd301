"""The signals that other apps may listen to.

`configuration_changed` is sent after the commit of a transaction that changed the configuration,
once for each area (`area`: "routing" or "access") and database (`using`). A receiver that fails is
logged and stops nothing.
"""

from django.dispatch import Signal

configuration_changed = Signal()
