"""Finds every process of a session and waits, without sleeping, until none is left.

A session's processes are those that carry its mark in their environment, and, to a fixed point, their
descendants and whoever shares a process group or a session with one of them. A mark survives what hides a
process from a walk of the tree: a parent that died, a new group, a new session.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "SHADOWCAT_E2E_SESSION"
_ENDED = "ZX"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_us() -> None:
    """For `preexec_fn`: the process is killed when the harness ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Process:
    """One process, told from a later one with the same id by its start time."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    state: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} (parent {self.parent}, {self.state}) {self.command}"


def _read(pid: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name = stat[stat.index("(") : stat.rindex(")") + 1]
    rest = stat[stat.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        state=rest[0],
        parent=int(rest[1]),
        group=int(rest[2]),
        session=int(rest[3]),
        started=int(rest[19]),
        command=words or name,
    )


def _marked(pid: int, needle: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return needle in environment.split(b"\0")


def members(mark: str, known: Iterable[Process] = ()) -> set[Process]:
    """The living processes of the session with this mark; `known` are members seen before."""
    everyone: dict[int, Process] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (process := _read(int(entry))) and process.state not in _ENDED:
            everyone[process.pid] = process
    us = everyone.get(os.getpid())
    ours = {us.group, us.session} if us else set()
    known_starts = {(process.pid, process.started) for process in known}
    needle = f"{MARK}={mark}".encode()
    found = {
        process
        for process in everyone.values()
        if (process.pid, process.started) in known_starts or _marked(process.pid, needle)
    }
    while True:
        pids = {process.pid for process in found}
        groups = {process.group for process in found} - ours
        sessions = {process.session for process in found} - ours
        more = {
            process
            for process in everyone.values()
            if process.pid != os.getpid()
            and (process.parent in pids or process.group in groups or process.session in sessions)
        }
        if more <= found:
            return found
        found |= more


def await_gone(mark: str, known: Iterable[Process], patience: float) -> set[Process]:
    """Wait until no process of the session lives, at most `patience` seconds; return those that still do."""
    deadline = time.monotonic() + patience
    seen = set(known)
    while living := members(mark, seen):
        seen |= living
        if not await_one_end(living, deadline - time.monotonic()):
            return members(mark, seen)
    return set()


def await_one_end(living: set[Process], seconds: float) -> bool:
    """Wait until one of these has ended; false when the time is over first."""
    poller = select.poll()
    handles: list[int] = []
    try:
        for process in living:
            try:
                handle = os.pidfd_open(process.pid)
            except ProcessLookupError:
                return True
            handles.append(handle)
            poller.register(handle, select.POLLIN)
        return bool(poller.poll(max(0.0, seconds) * 1000))
    finally:
        for handle in handles:
            os.close(handle)


def end(processes: Iterable[Process]) -> None:
    """Kill these, each by its id, and only if the id still means the same process."""
    for process in processes:
        current = _read(process.pid)
        if current and current.started == process.started:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
