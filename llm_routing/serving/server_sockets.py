"""The sockets of the server that runs the application: listening ones and open connections.

ASGI has no word for them, so what is particular to uvicorn (alone, with workers or under gunicorn)
is here. Of another server nothing is known, and it keeps its sockets until it gets the signal.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Any

MAX_ACCEPT_ROUNDS = 100


class ServerSockets:
    """Finds uvicorn's server through its handler of SIGTERM, which is a method of it."""

    def __init__(self, signal_handler: Callable[..., Any] | None) -> None:
        server = getattr(signal_handler, "__self__", None)
        is_uvicorn = hasattr(server, "servers") and hasattr(server, "server_state")
        self._server: Any = server if is_uvicorn else None

    @property
    def idle_seconds(self) -> float:
        """How long the server keeps a connection open that asks for nothing."""
        return 0.0 if self._server is None else float(self._server.config.timeout_keep_alive)

    @property
    def has_connections(self) -> bool:
        """Whether a caller is connected who may still send a request."""
        return self._server is not None and bool(self._server.server_state.connections)

    async def stop_listening(self) -> None:
        """Accepts what is in the queue and closes the listening sockets. Where other processes
        listen on the same socket, the queue is theirs from then on."""
        for listener in () if self._server is None else self._server.servers:
            await _accept_queue(listener.sockets)
            listener.close()


async def _accept_queue(sockets: Any) -> None:
    """Lets the event loop accept until nothing is left: the kernel resets connections that are in
    the queue of a socket when its last owner closes it."""
    poll = select.poll()
    for listening in sockets:
        poll.register(listening.fileno(), select.POLLIN)
    for _ in range(MAX_ACCEPT_ROUNDS):
        if not poll.poll(0):
            return
        await asyncio.sleep(0)
