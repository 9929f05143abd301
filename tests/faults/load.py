"""Steady load over raw sockets: requests at a fixed rate, whether or not earlier ones end."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

ANSWER_SECONDS = 120.0


@dataclass(slots=True)
class Load:
    """Sends chat completions to a server and keeps what went wrong with them."""

    url: str
    headers: Mapping[str, str]
    sent: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    async def new_connections(
        self, rate: float, delays: tuple[float, float], *, at_least: int, until: asyncio.Event
    ) -> None:
        """Requests on a connection each, `rate` a second: `at_least` so many, and on `until` then.
        Their provider takes between the two `delays` seconds."""
        shortest, longest = delays
        loop = asyncio.get_running_loop()
        begun = loop.time()
        number = 0
        async with asyncio.TaskGroup() as group:
            while number < at_least or not until.is_set():
                seconds = shortest + (longest - shortest) * (number * 7 % 10) / 9
                group.create_task(self._ask_once(number, seconds))
                number += 1
                await asyncio.sleep(begun + number / rate - loop.time())

    async def kept_connection(self, until: asyncio.Event) -> None:
        """One request after another on one connection, as long as the server keeps it."""
        number = 0
        while not until.is_set():
            reader, writer = await self._connect()
            with closing(writer):
                is_open = True
                while is_open and not until.is_set():
                    number += 1
                    is_open = await self._ask(reader, writer, f"kept {number}", 0.2)
                    await asyncio.sleep(0.05)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(self.url)
        return await asyncio.open_connection(address.hostname, address.port)

    async def _ask_once(self, number: int, seconds: float) -> None:
        try:
            reader, writer = await self._connect()
        except OSError as error:
            self.failures.append(f"{number}: {error!r}")
            return
        with closing(writer):
            await self._ask(reader, writer, str(number), seconds)

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        name: str,
        seconds: float,
    ) -> bool:
        """Sends one request. Returns whether the connection may be used again."""
        prompt = f"[[delay={seconds:.2f}]] load {name}"
        messages = [{"role": "user", "content": prompt}]
        body = json.dumps({"model": "debugging", "messages": messages}).encode()
        fields = "".join(f"{key}: {value}\r\n" for key, value in self.headers.items())
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{fields}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.sent += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(head.encode() + body)
                answer = await _read_answer(reader)
        except (OSError, EOFError, TimeoutError) as error:
            self.failures.append(f"{name}: {error!r}")
            return False
        status, may_use_again = answer
        if status == 200:
            self.answered += 1
        else:
            self.failures.append(f"{name}: status {status}")
        return may_use_again


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").lower()
    length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(int(length.partition(":")[2]))
    return int(head.split(" ", 2)[1]), "connection: close" not in head
