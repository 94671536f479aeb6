"""Checks the checks: each fault of `fixtures/standin.py` must fail the rows named here, and no others of these."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness import matrix
from harness.cells import Bench
from harness.model import Route
from harness.report import Row


@dataclass(frozen=True)
class Expectation:
    """Which of some checks a fault must fail, and which it must not."""

    fault: str
    fails: tuple[str, ...]
    passes: tuple[str, ...] = ("ping", "raw: batches")


WRITTEN_ANEW = ("raw: numbers", "raw: strings", "raw: objects", "raw: ids", "raw: members")

EXPECTATIONS = [
    Expectation("none", ("killed, busy server",), ("*",)),  # it has no keeper
    Expectation("reserialize-down", (*WRITTEN_ANEW, "ping"), ()),  # the server's instructions are not ASCII
    Expectation("reserialize-up", WRITTEN_ANEW, ("ping",)),
    Expectation("hold-back", ("raw: ids", "raw: batches"), ("raw: files",)),
    Expectation("swap", ("raw: duplex",)),
    Expectation("drop-large", ("raw: large", "4 MiB"), ("raw: duplex",)),
    Expectation("eat-cancellations", ("cancellation",)),
    Expectation("pass-noise", ("noise",)),
    Expectation("banner", ("initialize", "raw: ids", "noise"), ()),
    Expectation("mute", ("stderr",)),
    Expectation("one-way", ("one way at a time",)),
    Expectation("no-half-close", ("half-close", "unfinished line", "close"), ("server dies",)),
    Expectation("orphan", ("close", "npx", "raw: ids", "killed", "client gone"), ()),
]


#: Which checks of the matrix each fault must fail, of one client in front of one server.
MATRIX_EXPECTATIONS = {
    "none": set[str](),
    "drop-large": {"3 MiB"},
    "eat-cancellations": {"cancellation"},
    "orphan": {"close"},
}
MATRIX_CHECKS = ["open", "echo", "cancellation", "progress", "50 at once", "3 MiB"]


def self_test(fixtures: Path, run: Callable[[list[Route], list[str]], list[Row]], bench: Bench) -> int:
    """Run the checks through every fault; the exit status is 0 when each was caught where it must be."""
    failed = 0
    for expectation in EXPECTATIONS:
        prefix = (sys.executable, str(fixtures / "standin.py"), expectation.fault, "--")
        rows = run([Route("direct"), Route("through", prefix)], [*expectation.fails, *expectation.passes])
        caught = {row.check.name for row in rows if row.problems()}
        failed += _judge(expectation.fault, set(expectation.fails), caught)
        for row in rows:
            if row.check.name in caught - set(expectation.fails):
                print(f"    {row.check.name}:", *row.problems())
    for fault, fails in MATRIX_EXPECTATIONS.items():
        failed += _judge(f"matrix {fault}", fails, _caught_by_matrix(fixtures, fault, bench))
    print(f"\n{len(EXPECTATIONS) + len(MATRIX_EXPECTATIONS) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _judge(fault: str, fails: set[str], caught: set[str]) -> bool:
    """Print whether a fault was caught where it must be, and nowhere else; true when not."""
    verdict = "pass" if caught == fails else "FAIL"
    print(f"{verdict} | {fault:<24} | caught by {', '.join(sorted(caught)) or 'nothing'}", flush=True)
    for name in sorted(fails - caught):
        print(f"    {name} should have failed")
    for name in sorted(caught - fails):
        print(f"    {name} should have passed")
    return caught != fails


def _caught_by_matrix(fixtures: Path, fault: str, bench: Bench) -> set[str]:
    os.environ["STANDIN_FAULT"] = fault
    planned = matrix.plan(["pipe"], ["typescript 1.x"])
    planned.cells = {key: cell for key, cell in planned.cells.items() if cell.server == "dual"}
    for cell in planned.cells.values():
        cell.checks[:] = MATRIX_CHECKS
    runs = bench.runs / fault
    runs.mkdir()
    matrix.run(planned, replace(bench, runs=runs, shadowcat=fixtures / "standin.py"), at_once=2)
    return {verdict.check for verdict in planned.verdicts() if verdict.problem}
