"""One cell of the matrix: one client in front of one server over one route, and what its checks found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import processes
from harness.model import CheckFailed, expect
from harness.peers import ANNOUNCEMENT, USAGE, Peer, expect_clean_end, expect_gone, listening
from harness.texts import HOSTILE

E2E = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Link:
    """A way from a client to a server: what the client speaks, what the server speaks, and whether we are between."""

    name: str
    client: str
    server: str
    through: bool = True
    flags: tuple[str, ...] = ()

    @property
    def listens(self) -> bool:
        return self.through and self.client != "stdio"


LINKS = [
    Link("pipe", "stdio", "stdio"),
    Link("mux", "http", "stdio"),
    Link("mux-sse", "sse", "stdio", flags=("--legacy-sse",)),
    Link("dial", "stdio", "http"),
    Link("relay", "http", "http"),
    Link("dial-sse", "stdio", "sse"),
    Link("relay-sse", "sse", "sse", flags=("--legacy-sse",)),
]
#: The stream on which each server says where it listens, and how.
SAYS_WHERE = {"dual": ("stdout", rb"^(\d+)$"), "everything": ("stderr", rb"^listening on port (\d+)")}
#: What a proxy with --verify says of a message that was altered.
FAULT = b"what left is not what came in"
#: How long `mux` keeps a session whose client has just left: longer than any client is silent between two requests.
SESSION_IDLE = "5s"
DIRECT = {kind: Link(f"direct-{kind}", kind, kind, through=False) for kind in ("stdio", "http", "sse")}


@dataclass(frozen=True)
class Client:
    """A client program, the mode it is put in, and the revision it then speaks with a server of both eras."""

    name: str
    driver: tuple[str, ...]
    mode: str
    era: str
    #: Whether it ends its HTTP sessions itself.
    says_goodbye: bool = True


@dataclass
class Finding:
    """What one check of a cell found. No reason means it passed."""

    reason: str
    facts: Any = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What all cells share."""

    build: Path
    runs: Path
    shadowcat: Path | None
    patience: float
    #: When nothing more is started, on the clock of `time.monotonic`.
    deadline: float

    def server(self, kind: str, speaks: str) -> list[str]:
        if kind == "dual":
            return [sys.executable, str(E2E / "fixtures" / "dual.py"), speaks]
        packages = self.build / "node" / "node_modules" / "@modelcontextprotocol"
        index = str(packages / "server-everything" / "dist" / "index.js")
        if speaks == "stdio":
            return ["node", index, "stdio"]
        loopback = ["--import", str(E2E / "fixtures" / "loopback.mjs")]
        return ["node", *loopback, index, "sse" if speaks == "sse" else "streamableHttp"]


def refusal(bench: Bench, link: Link) -> str:
    """Why this build does not offer a link; empty if it does. Nobody is behind the words that it is given."""
    upstream = ["--", "true"] if link.server == "stdio" else ["http://127.0.0.1:9/mcp"]
    words = [str(bench.shadowcat), "proxy", *link.flags]
    if not link.listens:
        done = subprocess.run(
            [*words, *upstream], stdin=subprocess.DEVNULL, capture_output=True, timeout=bench.patience
        )
        said = done.stderr.decode(errors="replace").strip()
        return f"status {USAGE}, {said}" if done.returncode == USAGE else ""
    try:
        with listening(
            "proxy", [*words, "--listen", "127.0.0.1:0", *upstream], ANNOUNCEMENT, bench.runs, bench.patience
        ):
            return ""
    except CheckFailed as error:
        return str(error)


@dataclass
class Cell:
    """A cell to run; `findings` is filled by running it."""

    client: Client
    server: str
    link: Link
    checks: list[str]
    findings: dict[str, Finding] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.client.name} {self.server} {self.link.name}"

    def run(self, bench: Bench) -> Cell:
        """Run every check; whatever goes wrong becomes a finding."""
        directory = bench.runs / self.name.replace(" ", "-")
        directory.mkdir(parents=True)
        started = time.monotonic()
        try:
            expect(started < bench.deadline, "the time for the matrix was over")
            with ExitStack() as stack:
                reach, proxy = self._connect(bench, directory, stack)
                self._drive(bench, directory, reach)
                self._expect_closed(bench, proxy)
            _expect_unaltered(directory)
            self.findings.setdefault("close", Finding(""))
        except CheckFailed as error:
            self.findings["close"] = Finding(str(error))
        for missing in (one for one in self.checks if one not in self.findings):
            self.findings[missing] = Finding("it was not run: " + self.findings["close"].reason)
        self.findings["close"].seconds = round(time.monotonic() - started, 1)
        return self

    def _connect(self, bench: Bench, directory: Path, stack: ExitStack) -> tuple[dict[str, Any], Peer | None]:
        """Start what must run before the client and say how the client reaches it."""
        words = bench.server(self.server, self.link.server)
        upstream = ["--", *words]
        if self.link.server != "stdio":
            stream, pattern = SAYS_WHERE[self.server]
            server = stack.enter_context(listening("server", words, pattern, directory, bench.patience, stream))
            path = "sse" if self.link.server == "sse" else "mcp"
            upstream = [f"http://127.0.0.1:{server.port}/{path}"]
        if not self.link.through:
            return ({"command": words} if self.link.server == "stdio" else {self.link.server: upstream[0]}), None
        proxy = [str(bench.shadowcat), "proxy", "--verify", *self.link.flags]
        if not self.link.listens:
            return {"command": [*proxy, *upstream]}, None
        if self.link.name == "mux" and not self.client.says_goodbye:
            proxy += ["--session-idle", SESSION_IDLE]
        words = [*proxy, "--listen", "127.0.0.1:0", *upstream]
        peer = stack.enter_context(listening("proxy", words, ANNOUNCEMENT, directory, bench.patience))
        path = "sse" if self.link.client == "sse" else "mcp"
        return {self.link.client: f"http://127.0.0.1:{peer.port}/{path}"}, peer

    def _drive(self, bench: Bench, directory: Path, reach: dict[str, Any]) -> None:
        mark = uuid.uuid4().hex
        environment = os.environ | {processes.MARK: mark, "E2E_NODE": str(bench.build / "node")}
        spec = {
            "server": self.server,
            "reach": reach,
            "mode": self.client.mode,
            "checks": self.checks,
            "texts": HOSTILE,
            "hostile": "".join(HOSTILE.values()),
            "patience": bench.patience,
            "environment": dict(environment),
        }
        (directory / "spec.json").write_text(json.dumps(spec | {"environment": {}}, indent=1))
        words = [*self.client.driver, json.dumps(spec)]
        with (directory / "driver.stderr").open("wb") as errors:
            driver = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
                preexec_fn=processes.die_with_us,
            )
            try:
                out, _ = driver.communicate(timeout=bench.patience * (2 + len(self.checks)))
            except subprocess.TimeoutExpired:
                driver.kill()
                out, _ = driver.communicate()
        (directory / "driver.stdout").write_bytes(out)
        for line in out.splitlines():
            found = json.loads(line)
            self.findings[found["check"]] = Finding(found["reason"], found["facts"], found["seconds"])
        try:
            expect_gone("the client", mark, bench.patience)
        finally:
            expect(driver.returncode == 0, f"the client program ended with status {driver.returncode}")

    def _expect_closed(self, bench: Bench, proxy: Peer | None) -> None:
        """Every server of a session is gone with it; the proxy ends when asked to, and nothing of it is left."""
        if proxy is None:
            return
        if self.link.server == "stdio":
            script = bench.server(self.server, "stdio")[1]
            # Whoever speaks without sessions, or tries whether the server does, has used the one server of all.
            _expect_no_server(proxy.mark, script, bench.patience, but_for=int(self.client.era == "modern"))
        expect_clean_end(proxy, bench.patience)


def _expect_unaltered(directory: Path) -> None:
    """With --verify, a proxy says in its log if what left was not what came in."""
    for log in (path for path in directory.rglob("*") if path.is_file()):
        expect(FAULT not in log.read_bytes(), f"{log.name} says that a message was altered")


def _expect_no_server(mark: str, script: str, patience: float, but_for: int) -> None:
    deadline = time.monotonic() + patience

    def servers_of_sessions() -> set[processes.Process]:
        found = processes.members(mark)
        return {one for one in found if f"{script} " in one.command and " proxy " not in one.command}

    while len(servers := servers_of_sessions()) > but_for:
        if not processes.await_one_end(servers, deadline - time.monotonic()):
            raise CheckFailed("sessions were closed and their servers live: " + "; ".join(map(str, servers)))
