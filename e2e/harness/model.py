"""The words of the harness: a route, a check, what a check found, and how it fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class CheckFailed(Exception):
    """A check saw something it must not see. The text is for the person who reads the table."""


@dataclass(frozen=True)
class Route:
    """How a server's command is reached: as it is, or behind the words of `prefix`."""

    name: str
    prefix: tuple[str, ...] = ()

    def wrap(self, command: list[str]) -> list[str]:
        return [*self.prefix, *command]


@dataclass(frozen=True)
class Flow:
    """One direction of one session: what one side sent and what the other side received."""

    label: str
    sent: bytes
    received: bytes

    @property
    def equal(self) -> bool:
        return self.sent == self.received

    def difference(self) -> str:
        """Where the two first differ, with a little of both sides."""
        at = next(
            (i for i, (a, b) in enumerate(zip(self.sent, self.received, strict=False)) if a != b),
            min(len(self.sent), len(self.received)),
        )
        window = slice(max(0, at - 24), at + 40)
        return (
            f"{self.label}: {len(self.sent)} bytes sent, {len(self.received)} received, first difference at "
            f"byte {at}: sent …{self.sent[window]!r}, received …{self.received[window]!r}"
        )


@dataclass
class Findings:
    """What one run of one check found: facts to compare between routes, flows to compare inside one."""

    facts: dict[str, str] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)


@dataclass
class Context:
    """What a check is given: the route to take, where its files go, and where to put what it finds."""

    check: str
    route: Route
    python: str
    everything: list[str]
    npx: list[str]
    npx_cwd: Path
    fixtures: Path
    workdir: Path
    patience: float
    findings: Findings = field(default_factory=Findings)
    sessions: int = 0

    @property
    def through(self) -> bool:
        return bool(self.route.prefix)

    def new_session_dir(self) -> Path:
        """A fresh directory for one session's records; a check may open several sessions."""
        self.sessions += 1
        path = self.workdir / f"session-{self.sessions}"
        path.mkdir(parents=True)
        return path

    def fact(self, name: str, value: Any) -> None:
        """Note something that must be the same on both routes."""
        self.findings.facts[name] = value if isinstance(value, str) else digest(value)

    def flow(self, label: str, sent: bytes, received: bytes) -> None:
        """Note one direction and fail unless it arrived as it was sent."""
        flow = Flow(label, sent, received)
        self.findings.flows.append(flow)
        expect(flow.equal, flow.difference)


CheckBody = Callable[[Context], "Awaitable[None] | None"]


@dataclass(frozen=True)
class Check:
    """A named check."""

    name: str
    shows: str
    body: CheckBody


REGISTRY: list[Check] = []


def check(name: str, shows: str) -> Callable[[CheckBody], CheckBody]:
    """Register a check under `name`; `shows` says in one line what a pass proves."""

    def register(body: CheckBody) -> CheckBody:
        assert all(known.name != name for known in REGISTRY), f"two checks are called {name}"
        REGISTRY.append(Check(name, shows, body))
        return body

    return register


def expect(condition: bool, otherwise: str | Callable[[], str]) -> None:
    """Fail the check unless `condition` holds."""
    if not condition:
        raise CheckFailed(otherwise if isinstance(otherwise, str) else otherwise())


def expect_equal(what: str, got: Any, want: Any) -> None:
    """Fail the check unless `got == want`, showing the start of both."""
    if got != want:
        raise CheckFailed(f"{what}: got {shorten(got)}, want {shorten(want)}")


def shorten(value: Any, limit: int = 160) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def digest(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON, or of bytes as they are."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(data).hexdigest()
