"""The sockets of uvicorn, alone, with workers or under gunicorn: those that listen, and open
connections. Other servers keep their sockets until they get the signal to stop."""

import asyncio
import select
from collections.abc import Callable
from typing import Any

MAX_ACCEPT_ROUNDS = 100


class ServerSockets:
    """Finds uvicorn's server through its SIGTERM handler, which is a method of the server."""

    def __init__(self, signal_handler: Callable[..., Any] | None) -> None:
        server = getattr(signal_handler, "__self__", None)
        is_uvicorn = hasattr(server, "servers") and hasattr(server, "server_state")
        self._server: Any = server if is_uvicorn else None

    @property
    def idle_seconds(self) -> float:
        """Seconds for which the server keeps an idle connection open."""
        return 0.0 if self._server is None else float(self._server.config.timeout_keep_alive)

    @property
    def has_connections(self) -> bool:
        """Whether a caller is connected and may still send a request."""
        return self._server is not None and bool(self._server.server_state.connections)

    async def stop_listening(self) -> None:
        """Accepts the queued connections and closes the listening sockets. If other processes
        listen on the same socket, later connections are theirs."""
        for listener in () if self._server is None else self._server.servers:
            await _accept_queued(listener.sockets)
            listener.close()


async def _accept_queued(sockets: Any) -> None:
    """Lets the event loop accept until no connection is queued. The kernel resets connections that
    are queued on a socket when its last owner closes it."""
    poll = select.poll()
    for listening in sockets:
        poll.register(listening.fileno(), select.POLLIN)
    for _ in range(MAX_ACCEPT_ROUNDS):
        if not poll.poll(0):
            return
        await asyncio.sleep(0)
