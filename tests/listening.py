"""Servers of a test's own, over raw sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CLOSE_SECONDS = 1.0
TURNS_TO_ACCEPT = 5
"""Turns of the event loop from an accepted connection to the first step of its task, and more."""


@asynccontextmanager
async def listening(
    serve: Serve, certificate: ssl.SSLContext | None = None, *, limit: int = 2**16
) -> AsyncIterator[int]:
    """Yields the port of 127.0.0.1 at which `serve` is called for each connection; `limit` is for
    its reader. At the end all connections are closed, so that nothing of them is left in the event
    loop, not even of one that was accepted in the last moment."""
    connections: list[asyncio.Task[None]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        try:
            # asyncio's own callback fails for a cancelled task. The client may leave at any time.
            with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
                await serve(reader, writer)
        finally:
            writer.close()
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await writer.wait_closed()
            except (asyncio.CancelledError, TimeoutError):
                # A client that reads nothing would keep it open, with what was not sent.
                writer.transport.abort()
            except OSError:
                pass

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=certificate, limit=limit)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # asyncio loses the socket of a connection whose server is closed before it is set up.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
        for _ in range(TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections)
        await server.wait_closed()
