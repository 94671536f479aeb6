"""Runs what was asked for, prints what came of it, and ends with `N passed, N failed`."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mcp import MCPDeprecationWarning

import checks  # noqa: F401
from harness import conformance, matrix
from harness.cells import LINKS, Bench, refusal
from harness.model import REGISTRY, Route
from harness.report import Row, print_row, print_summary, print_title
from harness.runner import FIXTURES, Runner, choose
from harness.selftest import self_test

PARTS = ("exact", "matrix", "conformance")
#: A pause this long in one of the matrix's checks is a failure, on a machine that runs two of them at once.
MATRIX_PATIENCE = 60.0


def main() -> int:
    options = _options()
    if options.list:
        for one in REGISTRY:
            print(f"{one.name:20} {one.shows}")
        return 0
    if not choose(options.only):
        print(f"no check matches {' '.join(options.only)}", file=sys.stderr)
        return 64
    if not any(words in client.name for client in matrix.CLIENTS for words in options.clients):
        print(f"no client matches {' '.join(options.clients)}", file=sys.stderr)
        return 64
    # The SDK marks what newer revisions drop; the servers out there still need it.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    # It also logs each line that it cannot read; the checks see those themselves.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    build = options.build.resolve()
    if options.self_test:
        # Faults show as waits that end too late, so the patience is short.
        bench = replace(_bench(options, build, "self-test"), patience=10.0)
        return self_test(FIXTURES, lambda routes, only: _run(build, routes, only, 4.0, 120.0, quiet=True), bench)
    refused = _refuse_links(options, build)
    counts = [(0, refused), *(part(options, build) for part in _parts(options))]
    print()
    passed, failed = (sum(count) for count in zip(*counts, strict=True))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _refuse_links(options: argparse.Namespace, build: Path) -> int:
    """Take the links that this build does not offer out of those asked for, loudly; return how many they were."""
    if not options.shadowcat:
        return 0
    bench = _bench(options, build, "links")
    refusals = {link.name: refusal(bench, link) for link in LINKS if link.name in options.links}
    for name, why in refusals.items():
        if why:
            print(f"FAILED link {name}: this build does not offer it: {why}", flush=True)
    options.links = [name for name in options.links if not refusals[name]]
    return sum(1 for why in refusals.values() if why)


def _parts(options: argparse.Namespace) -> list[Callable[[argparse.Namespace, Path], tuple[int, int]]]:
    """The parts of the run that were asked for and that apply to the links asked for."""
    asked = options.parts or (["exact"] if options.via or options.only != ["*"] else PARTS)
    parts = {"exact": _exact, "matrix": _matrix, "conformance": _conformance}
    if "pipe" not in options.links:
        parts.pop("exact")
    return [part for name, part in parts.items() if name in asked]


def _exact(options: argparse.Namespace, build: Path) -> tuple[int, int]:
    """The checks of stdio to a child, byte for byte."""
    routes = [Route("direct")]
    if options.via or options.shadowcat:
        prefix = shlex.split(options.via) if options.via else [str(options.shadowcat), "proxy", "--verify", "--"]
        routes.append(Route("through", tuple(prefix)))
    print_title(routes)
    rows = _run(build, routes, options.only, options.patience, options.deadline)
    (build / "report.json").write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    return print_summary(rows)


def _bench(options: argparse.Namespace, build: Path, part: str) -> Bench:
    runs = build / part
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir(parents=True)
    return Bench(build, runs, options.shadowcat, MATRIX_PATIENCE, time.monotonic() + options.matrix_deadline)


def _matrix(options: argparse.Namespace, build: Path) -> tuple[int, int]:
    """Everybody's clients in front of everybody's servers, over every link."""
    print("\nmatrix", flush=True)
    planned = matrix.plan(options.links if options.shadowcat else [], options.clients, options.full)
    started = time.monotonic()
    matrix.run(planned, _bench(options, build, "matrix"), options.at_once)
    (build / "matrix.json").write_text(json.dumps(matrix.as_json(planned), indent=1) + "\n")
    passed, failed = matrix.report(planned)
    print(f"matrix: {passed} checks passed, {failed} failed, in {time.monotonic() - started:.0f} s", flush=True)
    return passed, failed


def _conformance(options: argparse.Namespace, build: Path) -> tuple[int, int]:
    """The official suite, directly and through us."""
    print("\nconformance", flush=True)
    started = time.monotonic()
    links = options.links if options.shadowcat else []
    passed, failed = conformance.run(_bench(options, build, "conformance"), links, options.at_once)
    print(f"conformance: {passed} scenarios passed, {failed} failed, in {time.monotonic() - started:.0f} s", flush=True)
    return passed, failed


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
    names = [link.name for link in LINKS]
    parser.add_argument("--links", metavar="LINK,…", type=_links, default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--parts", metavar="PART", nargs="+", choices=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--clients", metavar="WORDS", nargs="+", default=[""], help="the matrix's clients named so")
    parser.add_argument("--full", action="store_true", help="the matrix with what several of its cells show alike")
    parser.add_argument("--at-once", metavar="N", type=int, default=2, help="cells of the matrix that run at once")
    parser.add_argument("--matrix-deadline", metavar="S", type=float, default=540.0, help="the same for the matrix")
    parser.add_argument("--list", action="store_true", help="print the checks and what each one shows")
    parser.add_argument("--self-test", action="store_true", help="check the checks with a stand-in that has faults")
    return parser.parse_args()


def _links(text: str) -> list[str]:
    names = [link.name for link in LINKS]
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the links are {', '.join(names)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
