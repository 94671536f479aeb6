"""Checks the checks: each fault of `fixtures/standin.py` must fail the rows named here, and no others of these."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


def self_test(fixtures: Path, run: Callable[[list[Route], list[str]], list[Row]]) -> int:
    """Run the checks through every fault; the exit status is 0 when each was caught where it must be."""
    failed = 0
    for expectation in EXPECTATIONS:
        prefix = (sys.executable, str(fixtures / "standin.py"), expectation.fault, "--")
        rows = run([Route("direct"), Route("through", prefix)], [*expectation.fails, *expectation.passes])
        caught = {row.check.name for row in rows if row.problems()}
        missed, wrongly = set(expectation.fails) - caught, caught - set(expectation.fails)
        failed += bool(missed or wrongly)
        verdict = "FAIL" if missed or wrongly else "pass"
        print(f"{verdict} | {expectation.fault:<18} | caught by {', '.join(sorted(caught)) or 'nothing'}", flush=True)
        for name in sorted(missed):
            print(f"    {name} should have failed")
        for row in rows:
            if row.check.name in wrongly:
                print(f"    {row.check.name} should have passed:", *row.problems())
    print(f"\n{len(EXPECTATIONS) - failed} passed, {failed} failed")
    return 1 if failed else 0
