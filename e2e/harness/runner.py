"""Runs one check on one route and turns whatever happens into an outcome."""

from __future__ import annotations

import fnmatch
import inspect
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import anyio

from harness.model import REGISTRY, Check, CheckFailed, Context, Route
from harness.report import Outcome

E2E = Path(__file__).resolve().parent.parent
FIXTURES = E2E / "fixtures"


@dataclass(frozen=True)
class Runner:
    """What all checks of a run share."""

    build: Path
    runs: Path
    patience: float
    #: When nothing more is started, on the clock of `time.monotonic`.
    deadline: float

    def run(self, one: Check, route: Route) -> Outcome:
        workdir = self.runs / "".join(letter if letter.isalnum() else "-" for letter in one.name) / route.name
        workdir.mkdir(parents=True)
        context = self._context(one, route, workdir)
        started = time.monotonic()
        reason = ""
        if started > self.deadline:
            reason = "not run: the time for the whole run was over"
        else:
            try:
                if inspect.iscoroutinefunction(one.body):
                    anyio.run(self._bounded, one, context)
                else:
                    one.body(context)
            except Exception as error:
                reason = _reason(error)
                (workdir / "traceback").write_text(traceback.format_exc())
        return Outcome(reason, time.monotonic() - started, context.findings, workdir)

    def _context(self, one: Check, route: Route, workdir: Path) -> Context:
        node = self.build / "node"
        server = node / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
        return Context(
            check=one.name,
            route=route,
            python=sys.executable,
            everything=["node", str(server), "stdio"],
            npx=["npx", "--no-install", "mcp-server-everything", "stdio"],
            npx_cwd=node,
            fixtures=FIXTURES,
            workdir=workdir,
            patience=self.patience,
        )

    async def _bounded(self, one: Check, context: Context) -> None:
        with anyio.fail_after(3 * self.patience):
            body = one.body(context)
            assert body is not None
            await body


def choose(patterns: list[str]) -> list[Check]:
    """The registered checks whose names match one of the patterns, in the order of the table."""
    return [one for one in REGISTRY if any(fnmatch.fnmatch(one.name, pattern) for pattern in patterns)]


def _reason(error: BaseException) -> str:
    """What went wrong, from inside the groups that the SDK's task groups wrap around it."""
    leaves: list[BaseException] = []
    pending = [error]
    while pending:
        current = pending.pop()
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        else:
            leaves.append(current)
    ours = [leaf for leaf in leaves if isinstance(leaf, CheckFailed)]
    return "; ".join(str(leaf) if isinstance(leaf, CheckFailed) else repr(leaf) for leaf in ours or leaves)
