"""The official conformance suite, directly and through us, scenario by scenario and check by check.

Its server scenarios run against the server of both eras: directly, through `relay`, and through `mux` with the same
server as a child. Its client scenarios test the official TypeScript SDK: directly, and through `dial`. Whatever a
scenario finds good directly it must find good through us, and directly it must find all good.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness import processes
from harness.cells import E2E, Bench
from harness.model import CheckFailed, expect
from harness.peers import ANNOUNCEMENT, Peer, expect_clean_end, expect_gone, listening

REVISIONS = ("2025-11-25", "2026-07-28")
#: Behind `mux` the server speaks stdio, and HTTP is the proxy's own. What these scenarios find out about HTTP may there
#: be another way that the specification allows, which the suite marks as neither good nor bad; but never a bad one.
OWN_HTTP = {
    "server-sse-multiple-streams": "an answer that is one message goes as JSON, not as an event",
    "server-sse-polling": "a server on stdio has no stream that it could close before it answers",
}
#: A check that was good must be good. A warning is what the suite says where a specification says SHOULD.
GOOD = "SUCCESS"
#: Neither good nor bad: it tells of something or could not apply.
NEUTRAL = ("INFO", "SKIPPED")
SECONDS = 240

#: The worst status of each check, by scenario.
Results = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Run:
    """One leg of the suite at one revision over one route."""

    leg: str
    revision: str
    route: str

    @property
    def name(self) -> str:
        return f"{self.leg} {self.revision} {self.route}"


def _suite(bench: Bench) -> list[str]:
    packages = bench.build / "node" / "node_modules" / "@modelcontextprotocol"
    # Its own servers listen on every interface unless told otherwise.
    loopback = str(E2E / "fixtures" / "loopback.mjs")
    return ["node", "--import", loopback, str(packages / "conformance" / "dist" / "index.js")]


def run(bench: Bench, links: list[str], at_once: int) -> tuple[int, int]:
    """Run every leg over every route, print them side by side; return how many scenarios passed and failed."""
    routes = {"server": ["direct", *(name for name in ("relay", "mux") if name in links)]}
    routes["client"] = ["direct", *(name for name in ("dial",) if name in links)]
    runs = [Run(leg, revision, route) for leg in routes for revision in REVISIONS for route in routes[leg]]
    legs: dict[str, Callable[[Bench, Run], Results]] = {"server": _server_leg, "client": _client_leg}

    def one(run: Run) -> Results | str:
        try:
            return legs[run.leg](bench, run)
        except CheckFailed as error:
            return str(error)

    with ThreadPoolExecutor(at_once) as pool:
        results = dict(zip(runs, pool.map(one, runs), strict=True))
    counts = [_report(leg, revision, routes[leg], results) for leg in routes for revision in REVISIONS]
    return sum(count[0] for count in counts), sum(count[1] for count in counts)


def _server_leg(bench: Bench, run: Run) -> Results:
    directory = bench.runs / run.name.replace(" ", "-")
    directory.mkdir()
    with ExitStack() as stack:

        def start(name: str, words: list[str], pattern: bytes, stream: str) -> Peer:
            return stack.enter_context(listening(name, words, pattern, directory, bench.patience, stream))

        upstream = ["--", *bench.server("dual", "stdio")]
        if run.route != "mux":
            peer = start("server", bench.server("dual", "http"), rb"^(\d+)$", "stdout")
            upstream = [f"http://127.0.0.1:{peer.port}/mcp"]
        if run.route != "direct":
            words = [str(bench.shadowcat), "proxy", "--verify", "--listen", "127.0.0.1:0", *upstream]
            peer = start("proxy", words, ANNOUNCEMENT, "stderr")
        url = f"http://127.0.0.1:{peer.port}/mcp"
        words = ["server", "--url", url, "--suite", "all", "--spec-version", run.revision]
        _call(bench, directory, words)
        if run.route != "direct":
            expect_clean_end(peer, bench.patience)
    return {name.removeprefix("server-"): checks for name, checks in _read(directory / "results").items()}


def _client_leg(bench: Bench, run: Run) -> Results:
    found: Results = {}
    command = ["node", str(E2E / "drivers" / "conformance_client.mjs")]
    if run.route == "dial":
        command.append(str(bench.shadowcat))
    for scenario in _client_scenarios(bench, run.revision):
        directory = bench.runs / run.name.replace(" ", "-") / scenario
        directory.mkdir(parents=True)
        words = ["client", "--command", shlex.join(command), "--scenario", scenario, "--spec-version", run.revision]
        _call(bench, directory, words)
        found |= _read(directory / "results") or {scenario: {}}
    return found


def _client_scenarios(bench: Bench, revision: str) -> list[str]:
    """Those of the revision, but for authorization: it is a matter of servers that we do not stand before."""
    words = [*_suite(bench), "list", "--client", "--spec-version", revision]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    names = re.findall(r"^  - (\S+) \[(.*)\]$", listed, re.MULTILINE)
    return [name for name, revisions in names if not name.startswith("auth/") and revision in revisions]


def _call(bench: Bench, directory: Path, words: list[str]) -> None:
    """Run the suite once. Its status says whether all was good, which is not what decides here."""
    mark = uuid.uuid4().hex
    environment = os.environ | {processes.MARK: mark, "E2E_NODE": str(bench.build / "node")}
    with (directory / "suite.log").open("wb") as log:
        suite = subprocess.Popen(
            [*_suite(bench), *words, "--output-dir", str(directory / "results")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            preexec_fn=processes.die_with_us,
        )
        try:
            suite.wait(SECONDS)
        except subprocess.TimeoutExpired:
            suite.kill()
            suite.wait()
            raise CheckFailed(f"the suite was not done after {SECONDS} s: {shlex.join(words)}") from None
        finally:
            expect_gone("the suite", mark, bench.patience)
    expect((directory / "results").exists(), f"the suite wrote nothing, see {directory / 'suite.log'}")


def _read(results: Path) -> Results:
    """The worst status of each check of each scenario."""
    found: Results = {}
    for file in sorted(results.glob("*/checks.json")):
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name)
        checks = found.setdefault(scenario, {})
        for check in json.loads(file.read_text()):
            checks[check["id"]] = max(checks.get(check["id"], "INFO"), check["status"], key=_badness)
    return found


def _is_bad(status: str) -> bool:
    return _badness(status) > _badness(GOOD)


def _badness(status: str) -> int:
    order = (*NEUTRAL, GOOD, "WARNING")
    return order.index(status) if status in order else len(order)


def _report(leg: str, revision: str, routes: list[str], results: dict[Run, Results | str]) -> tuple[int, int]:
    """Print one leg at one revision, its routes side by side."""
    print(f"\n{leg} scenarios at {revision}: checks that are good, of those that apply\n")
    print(f"  {'scenario':<48}", *[f"{route:>9}" for route in routes])
    found = {route: results[Run(leg, revision, route)] for route in routes}
    direct = found["direct"]
    if isinstance(direct, str):
        print(f"FAILED conformance {leg} {revision} direct: {direct}")
        return 0, 1
    problems, count = [], 0
    for scenario, checks in sorted(direct.items()):
        cells = []
        for route in routes:
            count += 1
            through = found[route]
            theirs = through.get(scenario, {}) if isinstance(through, dict) else {}
            cells.append(_cell(theirs))
            for problem in _problems(scenario, checks, theirs, route):
                problems.append((f"{leg} {revision} {route} {scenario}", problem))
        print(f"  {scenario:<48}", *[f"{cell:>9}" for cell in cells])
    for route, what in found.items():
        if isinstance(what, str):
            print(f"FAILED conformance {leg} {revision} {route}: {what}")
    for name, problem in problems:
        print(f"FAILED conformance {name}: {problem}")
    failed = len({name for name, _ in problems})
    return count - failed, failed


def _cell(checks: dict[str, str]) -> str:
    applicable = [status for status in checks.values() if status not in NEUTRAL]
    return f"{applicable.count(GOOD)}/{len(applicable)}" if checks else "none"


def _problems(scenario: str, direct: dict[str, str], theirs: dict[str, str], route: str) -> list[str]:
    if route == "direct":
        bad = [f"{check} is {status} directly" for check, status in direct.items() if _is_bad(status)]
        return bad or ([] if direct else ["it ran no check"])
    if route == "mux" and scenario in OWN_HTTP:
        bad = [f"{check} is {status} through {route}" for check, status in theirs.items() if _is_bad(status)]
        return bad or ([] if theirs else [f"it ran no check through {route}"])
    return [
        f"{check} is {GOOD} directly and {theirs.get(check, 'missing')} through {route}"
        for check, status in direct.items()
        if status == GOOD and theirs.get(check) != GOOD
    ]
