"""A session of the official Python SDK's client, with every byte recorded at both ends.

At the client's end the SDK's own pipe streams are recorded; at the server's end `fixtures/tap.py` stands in
front of the server. After the session the two records must be equal and no process of it may be left.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from mcp import ClientSession, StdioServerParameters, stdio_client

from harness import processes
from harness.model import Context, expect, expect_equal


@dataclass
class Wire:
    """What the SDK's client wrote and read, byte for byte."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)

    def attach(self, process: anyio.abc.Process) -> None:
        stdin, stdout = process.stdin, process.stdout
        assert stdin and stdout
        send, receive = stdin.send, stdout.receive

        async def recording_send(item: bytes) -> None:
            self.sent += item
            await send(item)

        async def recording_receive(max_bytes: int = 65536) -> bytes:
            item = await receive(max_bytes)
            self.received += item
            return item

        stdin.send = recording_send  # type: ignore[method-assign]
        stdout.receive = recording_receive  # type: ignore[method-assign]


@dataclass
class Live:
    """An open session: the SDK's object, the client's record and the directory of the server's record."""

    client: ClientSession
    wire: Wire
    records: Path
    mark: str

    def server_has_received(self) -> bytes:
        return (self.records / "to_server").read_bytes()

    def members(self) -> set[processes.Process]:
        return processes.members(self.mark)


@contextmanager
def recording(wire: Wire) -> Iterator[None]:
    """Record the streams of the process that the SDK starts inside this block."""
    original = anyio.open_process

    async def open_process(*args: Any, **options: Any) -> anyio.abc.Process:
        process = await original(*args, **options)
        wire.attach(process)
        return process

    anyio.open_process = open_process
    try:
        yield
    finally:
        anyio.open_process = original


@asynccontextmanager
async def transport(
    context: Context,
    *,
    command: list[str] | None = None,
    cwd: Path | None = None,
    tapped: bool = True,
    abrupt: bool = False,
) -> AsyncIterator[tuple[Any, Wire, Path, str]]:
    """The SDK's stdio transport over this route, checked when it closes.

    `abrupt` sessions end with a killed server: their records are not compared, as the last bytes may be lost.
    """
    records, wire, mark = context.new_session_dir(), Wire(), uuid.uuid4().hex
    server = command or context.everything
    if tapped:
        server = [context.python, str(context.fixtures / "tap.py"), str(records), "--", *server]
    words = context.route.wrap(server)
    parameters = StdioServerParameters(command=words[0], args=words[1:], env={processes.MARK: mark}, cwd=cwd)
    seen: set[processes.Process] = set()
    with open(records / "stderr", "w") as errors, recording(wire):
        try:
            async with stdio_client(parameters, errors) as streams:
                try:
                    yield streams, wire, records, mark
                finally:
                    seen = processes.members(mark)
        finally:
            left = processes.await_gone(mark, seen, context.patience)
            processes.end(left)
    expect(not left, lambda: "left behind: " + "; ".join(map(str, left)))
    context.fact("processes left", "none")
    if tapped and not abrupt:
        ended = records / "exit"
        expect(ended.exists(), "the server did not end by itself after the client had closed: it was killed")
        expect_equal("the server's exit status", ended.read_text(), "0")
        context.flow("client to server", bytes(wire.sent), (records / "to_server").read_bytes())
        context.flow("server to client", (records / "from_server").read_bytes(), bytes(wire.received))


@asynccontextmanager
async def session(
    context: Context,
    *,
    command: list[str] | None = None,
    cwd: Path | None = None,
    tapped: bool = True,
    abrupt: bool = False,
    **callbacks: Any,
) -> AsyncIterator[Live]:
    """An initialized session with server-everything, or with `command`."""
    opened = transport(context, command=command, cwd=cwd, tapped=tapped, abrupt=abrupt)
    async with (
        opened as (streams, wire, records, mark),
        ClientSession(streams[0], streams[1], read_timeout_seconds=context.patience, **callbacks) as client,
    ):
        await client.initialize()
        yield Live(client, wire, records, mark)
