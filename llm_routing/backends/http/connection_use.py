"""One use of a connection by one request: decides whether the request may be sent again."""

from collections.abc import Callable

from msgspec import Struct

from llm_routing.core.ports import no_op


class ConnectionState:
    """The state of a connection that is tracked: `uses` counts the requests on it, `is_silent` is
    True until the first byte of the current response, `head_bytes` counts the bytes received before
    the end of its head (None afterwards), and `unacknowledged` is the number of sent bytes that the
    peer had not acknowledged when it closed the connection."""

    uses = 0
    is_silent = True
    head_bytes: int | None = None
    unacknowledged = 0


class ConnectionUse(Struct, eq=False):
    """One use of a connection. `on_connected` is called once it is acquired. If `wants_new`, an
    idle connection is not used. `sent` is the number of bytes of the request that were written,
    None if aiohttp's client writes them."""

    on_connected: Callable[[], None]
    wants_new: bool = False
    sent: int | None = None
    connection: ConnectionState | None = None

    def connected(self) -> None:
        """Reports once that the request has a connection."""
        # The use outlives the request in contexts of the connection's callbacks.
        on_connected, self.on_connected = self.on_connected, no_op
        on_connected()

    def bind(self, connection: object) -> None:
        """Attaches the connection that was acquired; one that is not tracked is ignored."""
        on_connected, self.on_connected = self.on_connected, no_op
        on_connected()
        if isinstance(connection, ConnectionState):
            self.connection = connection
            connection.uses += 1
            connection.is_silent = True
            connection.head_bytes = 0
            connection.unacknowledged = 0

    @property
    def was_stale(self) -> bool:
        """Whether the connection had served before and brought no byte this time: most likely it
        was closed while it was idle."""
        connection = self.connection
        return connection is not None and connection.uses > 1 and connection.is_silent

    @property
    def is_unread(self) -> bool:
        """Whether nobody can have read a byte of the request: none was written, or the peer closed
        the connection before its kernel had acknowledged any."""
        connection, sent = self.connection, self.sent
        return connection is not None and sent is not None and connection.unacknowledged >= sent
