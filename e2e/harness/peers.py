"""Processes that run beside a client: HTTP servers, and the proxy where it listens.

Each says on one of its streams where it listens; everything it says is kept in a file. It is ended by its id and
must then be gone with all that it started.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import processes
from harness.model import CheckFailed, expect

#: How the proxy says that it does not know what the command line asks for.
USAGE = 64
#: What the proxy says once it listens.
ANNOUNCEMENT = rb"listening on http://127\.0\.0\.1:(\d+)/mcp"


@dataclass
class Peer:
    """A process that listens, and the mark of everything it starts."""

    name: str
    process: subprocess.Popen[bytes]
    mark: str
    port: int = 0

    def end(self, patience: float) -> int:
        """Ask it to end, wait until it has and return its status; a later look finds what it left."""
        self.process.terminate()
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise CheckFailed(f"{self.name} did not end within {patience} s of SIGTERM") from None


class _Announcement:
    """Reads a stream to its end into a file; the port is there once a line has said it."""

    def __init__(self, stream: object, record: Path, pattern: re.Pattern[bytes]) -> None:
        self.port = 0
        self._said = threading.Event()
        threading.Thread(target=self._read, args=(stream, record, pattern), daemon=True).start()

    def _read(self, stream: object, record: Path, pattern: re.Pattern[bytes]) -> None:
        with record.open("wb") as file:
            for line in stream:  # type: ignore[attr-defined]
                file.write(line)
                file.flush()
                if not self.port and (match := pattern.search(line)):
                    self.port = int(match[1])
                    self._said.set()
        self._said.set()

    def wait(self, patience: float) -> bool:
        return self._said.wait(patience) and self.port != 0


@contextmanager
def listening(
    name: str, words: list[str], pattern: bytes, directory: Path, patience: float, stream: str = "stderr"
) -> Iterator[Peer]:
    """A process that listens while this block runs. Its last line of defence is a kill of all that carries its mark."""
    mark = uuid.uuid4().hex
    other = "stdout" if stream == "stderr" else "stderr"
    with (directory / f"{name}.{other}").open("wb") as rest:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            env=os.environ | {processes.MARK: mark},
            start_new_session=True,
            preexec_fn=processes.die_with_us,
            **{stream: subprocess.PIPE, other: rest},  # type: ignore[arg-type]
        )
    peer = Peer(name, process, mark)
    record = directory / f"{name}.{stream}"
    try:
        announcement = _Announcement(getattr(process, stream), record, re.compile(pattern))
        if not announcement.wait(patience):
            raise CheckFailed(_why_not(peer, record, patience))
        peer.port = announcement.port
        yield peer
    finally:
        seen = processes.members(mark)
        processes.end(seen)
        process.wait()


def _why_not(peer: Peer, record: Path, patience: float) -> str:
    try:
        status = peer.process.wait(1)
    except subprocess.TimeoutExpired:
        return f"{peer.name} did not say within {patience} s where it listens"
    said = record.read_text(errors="replace").strip().splitlines()
    why = f"{peer.name} did not take its command line" if status == USAGE else f"{peer.name} ended before it listened"
    return f"{why}: status {status}, {said[-1] if said else 'nothing said'}"


def expect_gone(name: str, mark: str, patience: float) -> None:
    """Fail unless everything with this mark ends by itself within the patience; kill what does not."""
    left = processes.await_gone(mark, (), patience)
    processes.end(left)
    expect(not left, lambda: f"left behind by {name}: " + "; ".join(map(str, left)))


def expect_clean_end(peer: Peer, patience: float) -> None:
    """Fail unless the peer ends with status 0 when it is asked to, and leaves nothing."""
    status = peer.end(patience)
    expect_gone(peer.name, peer.mark, patience)
    expect(status == 0, f"{peer.name} ended with status {status} after SIGTERM")
