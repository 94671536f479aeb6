"""Runs the checks on both routes, prints the table, and ends with `N passed, N failed`."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import shutil
import sys
import time
import warnings
from pathlib import Path

from mcp import MCPDeprecationWarning

import checks  # noqa: F401
from harness.model import REGISTRY, Route
from harness.report import Row, print_row, print_summary, print_title
from harness.runner import FIXTURES, Runner, choose
from harness.selftest import self_test


def main() -> int:
    options = _options()
    if options.list:
        for one in REGISTRY:
            print(f"{one.name:20} {one.shows}")
        return 0
    if not choose(options.only):
        print(f"no check matches {' '.join(options.only)}", file=sys.stderr)
        return 64
    # The SDK marks what newer revisions drop; the servers out there still need it.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    # It also logs each line that it cannot read; the checks see those themselves.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    build = options.build.resolve()
    if options.self_test:
        # Faults show as waits that end too late, so the patience is short.
        return self_test(FIXTURES, lambda routes, only: _run(build, routes, only, 4.0, 120.0, quiet=True))
    routes = [Route("direct")]
    if options.via or options.shadowcat:
        prefix = shlex.split(options.via) if options.via else [str(options.shadowcat), "proxy", "--"]
        routes.append(Route("through", tuple(prefix)))
    print_title(routes)
    rows = _run(build, routes, options.only, options.patience, options.deadline)
    (build / "report.json").write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    return print_summary(rows)


def _run(
    build: Path, routes: list[Route], only: list[str], patience: float, seconds: float, quiet: bool = False
) -> list[Row]:
    """Run the chosen checks on every route, printing each row as it is done."""
    runs = build / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    runner = Runner(build, runs, patience, time.monotonic() + seconds)
    rows: list[Row] = []
    for one in choose(only):
        rows.append(Row(one, [runner.run(one, route) for route in routes]))
        if not quiet:
            print_row(rows[-1])
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="e2e/run", description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--shadowcat", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--via", metavar="WORDS", help="go through these words in front of a server's command instead")
    parser.add_argument("--direct", action="store_true", help="run directly only")
    parser.add_argument("--only", metavar="PATTERN", nargs="+", default=["*"], help="run the checks with such names")
    parser.add_argument("--patience", metavar="S", type=float, default=15.0, help="seconds until a wait has failed")
    parser.add_argument("--deadline", metavar="S", type=float, default=200.0, help="seconds until no check is started")
    parser.add_argument("--list", action="store_true", help="print the checks and what each one shows")
    parser.add_argument("--self-test", action="store_true", help="check the checks with a stand-in that has faults")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
