"""A client without an SDK: exact bytes out, exact bytes in, every wait bounded, one thread."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import processes
from harness.model import CheckFailed, Context, expect

CHUNK = 1 << 16
PIPE_END = (BrokenPipeError, ConnectionResetError)


class RawClient:
    """The client's two ends of a session, as descriptors that never block."""

    def __init__(self, process: subprocess.Popen[bytes], writer: int, reader: int, patience: float) -> None:
        self.process = process
        self.sent = bytearray()
        self.received = bytearray()
        self.ended = False
        #: While true, nothing is read, whatever waits.
        self.deaf = False
        self._patience = patience
        self._waiting = bytearray()
        self._writer: int | None = writer
        self._reader: int | None = reader
        for end in (writer, reader):
            os.set_blocking(end, False)

    def send(self, data: bytes) -> None:
        """Queue bytes; they leave during the next wait."""
        self._waiting += data

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        """Write and read until `until()` holds; fail when the patience or the stream ends first."""
        deadline = time.monotonic() + self._patience
        while not until():
            if self.ended:
                raise CheckFailed(f"the server's output ended while waiting for {what}")
            if not self._step(deadline - time.monotonic()):
                raise CheckFailed(f"nothing for {self._patience} s while waiting for {what}")

    def wait_written(self) -> None:
        self.wait("room to write", lambda: not self._waiting)

    def wait_received(self, count: int, what: str) -> None:
        self.wait(what, lambda: len(self.received) >= count)

    def wait_end(self) -> int:
        """Wait for the end of the server's output, then for the process; return its exit status."""
        self.wait("the end of the output", lambda: self.ended)
        try:
            return self.process.wait(self._patience)
        except subprocess.TimeoutExpired:
            raise CheckFailed("the process did not end after it had closed its output") from None

    def close_input(self) -> None:
        """Close our sending side; the other stays open."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def close_output(self) -> None:
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None

    def _step(self, seconds: float) -> bool:
        """One round of writing and reading; false when nothing could be done in time."""
        with selectors.DefaultSelector() as selector:
            if self._reader is not None and not self.ended and not self.deaf:
                selector.register(self._reader, selectors.EVENT_READ)
            if self._writer is not None and self._waiting:
                selector.register(self._writer, selectors.EVENT_WRITE)
            ready = selector.select(max(0.0, seconds))
        for key, _ in ready:
            self._read() if key.fd == self._reader else self._write()
        return bool(ready)

    def _read(self) -> None:
        assert self._reader is not None
        try:
            data = os.read(self._reader, CHUNK)
        except PIPE_END:
            data = b""
        self.received += data
        self.ended = not data

    def _write(self) -> None:
        assert self._writer is not None
        try:
            count = os.write(self._writer, memoryview(self._waiting)[:CHUNK])
        except PIPE_END:
            raise CheckFailed("the other side stopped reading") from None
        self.sent += self._waiting[:count]
        del self._waiting[:count]


def _ends(wire: str) -> tuple[int, int, int, int]:
    """(the child's stdin, our writer, our reader, the child's stdout) over pipes or sockets."""
    if wire == "pipe":
        child_in, writer = os.pipe()
        reader, child_out = os.pipe()
        return child_in, writer, reader, child_out
    assert wire == "socket", wire
    one, two = socket.socketpair(), socket.socketpair()
    return one[0].detach(), one[1].detach(), two[1].detach(), two[0].detach()


@contextmanager
def raw_session(context: Context, command: list[str], records: Path, wire: str = "pipe") -> Iterator[RawClient]:
    """Start the command over this route; afterwards no process of it may be left."""
    mark = uuid.uuid4().hex
    child_in, writer, reader, child_out = _ends(wire)
    with open(records / "stderr", "wb") as errors:
        process = subprocess.Popen(
            context.route.wrap(command),
            stdin=child_in,
            stdout=child_out,
            stderr=errors,
            env={**os.environ, processes.MARK: mark},
            start_new_session=True,
        )
    os.close(child_in)
    os.close(child_out)
    client = RawClient(process, writer, reader, context.patience)
    seen: set[processes.Process] = set()
    try:
        yield client
        seen = processes.members(mark)
    finally:
        client.close_input()
        client.close_output()
        left = processes.await_gone(mark, seen, context.patience)
        processes.end(left)
        process.wait(context.patience)
    expect(not left, lambda: "left behind: " + "; ".join(map(str, left)))
    context.fact("processes left", "none")


def run_over_files(context: Context, command: list[str], records: Path, input_path: Path) -> tuple[int, bytes]:
    """Run with a file as input and a file as output; the exit status and the output."""
    mark = uuid.uuid4().hex
    output = records / "stdout"
    with open(input_path, "rb") as stdin, open(output, "wb") as stdout, open(records / "stderr", "wb") as errors:
        process = subprocess.Popen(
            context.route.wrap(command),
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
            env={**os.environ, processes.MARK: mark},
            start_new_session=True,
        )
    try:
        status = process.wait(context.patience)
    except subprocess.TimeoutExpired:
        raise CheckFailed("the process did not end although its input had ended") from None
    finally:
        left = processes.await_gone(mark, (), context.patience if process.returncode is not None else 0)
        processes.end(left)
        process.wait(context.patience)
    expect(not left, lambda: "left behind: " + "; ".join(map(str, left)))
    return status, output.read_bytes()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
