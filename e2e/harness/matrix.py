"""The matrix: every client in front of every server, directly and over every link; what passes directly must pass.

For each client and server the checks run once directly over each transport that the server has; these runs are
what the runs over the links are held against, check by check, with the facts that each check noted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness.cells import DIRECT, E2E, LINKS, Bench, Cell, Client, Link

CHECKS = (
    "open",
    "lists",
    "echo",
    "tool error",
    "progress",
    "sampling",
    "elicitation",
    "read",
    "subscribe",
    "logging",
    "cancellation",
    "50 at once",
    "3 MiB",
    "16 MiB",
    "10 sessions",
)
#: What depends on how a client finds out which revision to speak; what it does then, the client of that mode does too.
NEGOTIATED = ("open", "lists", "echo")
#: What the inspector's command line can do, each in a process of its own.
INSPECTED = ("lists", "echo", "tool error", "read")

PYTHON = (sys.executable, "-m", "drivers.python_sdk")
TYPESCRIPT = ("node", str(E2E / "drivers" / "typescript_sdk.mjs"))
INSPECTOR = (sys.executable, "-m", "drivers.inspector")

CLIENTS = [
    Client("python legacy", PYTHON, "legacy", "legacy"),
    Client("python auto", PYTHON, "auto", "modern"),
    Client("python 2026-07-28", PYTHON, "2026-07-28", "modern"),
    Client("typescript 1.x", (*TYPESCRIPT, "1"), "legacy", "legacy"),
    Client("typescript 2.x legacy", (*TYPESCRIPT, "2"), "legacy", "legacy"),
    Client("typescript 2.x auto", (*TYPESCRIPT, "2"), "auto", "modern"),
    Client("typescript 2.x 2026-07-28", (*TYPESCRIPT, "2"), "2026-07-28", "modern"),
    Client("inspector legacy", INSPECTOR, "legacy", "legacy", says_goodbye=False),
    Client("inspector modern", INSPECTOR, "modern", "modern"),
]
#: One mode of each generation of each SDK, for what is slow and does not depend on the mode.
ONCE = ("python legacy", "typescript 1.x", "typescript 2.x 2026-07-28")
#: One client of each era. What is large takes the Python SDK long on stdio.
ONCE_AN_ERA = ("typescript 1.x", "typescript 2.x 2026-07-28")
SERVERS = ("dual", "everything")


def checks_of(client: Client, server: str, link: Link, full: bool) -> list[str]:
    """Which checks make sense in a cell; none means that there is no such cell.

    Unless all is asked for, what another cell shows too is left out. Every client still meets every server over every
    link. Over each link each check still runs with each SDK, and in each era that the SDK speaks; but for the sessions
    side by side, which run once for each SDK, and 3 MiB, which is left out where the client sends 16.
    """
    checks = _possible(client, server, link)
    if full or not checks:
        return checks
    if client.mode == "auto":
        return [one for one in checks if one in NEGOTIATED]
    if client.driver == INSPECTOR and client.era == "legacy" and server == "dual":
        return [one for one in checks if one == "lists"]
    both = server == "dual" and client.era == "legacy"
    left_out = set[str]()
    if both or "16 MiB" in checks:
        left_out.add("3 MiB")
    if both or client.name not in ONCE:
        left_out.add("10 sessions")
    return [one for one in checks if one not in left_out]


def _possible(client: Client, server: str, link: Link) -> list[str]:
    if server == "everything" and client.mode in ("2026-07-28", "modern"):
        return []  # it speaks no such revision
    if link.server == "sse" and server == "dual":
        return []  # it has no such transport
    if "sse" in (link.client, link.server) and client.era == "modern":
        return []  # a transport of 2024-11-05 carries no such revision
    if client.driver == INSPECTOR:
        return list(INSPECTED)
    left_out = set[str]()
    if server == "everything":
        left_out.add("16 MiB")  # its SDK takes 10 MiB on stdio and 4 MiB over HTTP
    elif client.name not in (ONCE_AN_ERA if "stdio" in (link.client, link.server) else ONCE):
        left_out.add("16 MiB")
    if client.driver == PYTHON and "sse" in (link.client, link.server):
        left_out |= {"3 MiB", "16 MiB"}  # it takes events of 1 MiB there
    if link.server == "stdio" and (server == "dual" or client.name not in (*ONCE, "typescript 2.x legacy")):
        left_out.add("10 sessions")  # ten servers; those on node start faster
    return [one for one in CHECKS if one not in left_out]


@dataclass
class Verdict:
    """One check over one link, held against the same check directly."""

    cell: Cell
    check: str
    problem: str


@dataclass
class Matrix:
    """All cells of a run, by client, server and route."""

    cells: dict[tuple[str, str, str], Cell]

    def verdicts(self) -> Iterator[Verdict]:
        """A verdict for every check of every cell. Directly, each must pass: else it would demand nothing of us."""
        for cell in self.cells.values():
            direct = self.cells[cell.client.name, cell.server, f"direct-{cell.link.server}"]
            for check, found in cell.findings.items():
                problem = found.reason
                if not problem and cell is not direct and check in direct.findings:
                    problem = _difference(direct.findings[check].facts, found.facts)
                yield Verdict(cell, check, problem)


def _difference(direct: Any, through: Any) -> str:
    if direct == through:
        return ""
    one, other = (json.dumps(facts, sort_keys=True, ensure_ascii=False) for facts in (direct, through))
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    near = slice(max(0, at - 40), at + 60)
    return f"it passes, with other facts: direct …{one[near]}, through …{other[near]}"


def plan(links: list[str], clients: list[str], full: bool) -> Matrix:
    """The cells over these links, with the direct ones that they are held against."""
    wanted = [link for link in LINKS if link.name in links]
    routes = [DIRECT[kind] for kind in dict.fromkeys(link.server for link in wanted or LINKS)] + wanted
    cells = {}
    for client in CLIENTS:
        if not any(words in client.name for words in clients):
            continue
        for server in SERVERS:
            for link in routes:
                if checks := checks_of(client, server, link, full):
                    cells[client.name, server, link.name] = Cell(client, server, link, checks)
    for cell in cells.values():
        baseline = (cell.client.name, cell.server, f"direct-{cell.link.server}")
        assert baseline in cells, f"{cell.name} has nothing to be held against"
    return Matrix(cells)


def run(matrix: Matrix, bench: Bench, at_once: int) -> None:
    """Run all cells, those that take longest first."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    slow = sorted(matrix.cells.values(), key=lambda cell: -("16 MiB" in cell.checks) - ("10 sessions" in cell.checks))
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda cell: cell.run(bench), slow))


def report(matrix: Matrix) -> tuple[int, int]:
    """Print the table and what failed; return how many checks passed and failed."""
    routes = [link.name for link in (*DIRECT.values(), *LINKS)]
    routes = [name for name in routes if any(key[2] == name for key in matrix.cells)]
    problems = [verdict for verdict in matrix.verdicts() if verdict.problem]
    total = sum(1 for _ in matrix.verdicts())
    print("Checks passed, of those run, for each client in front of each server, over each route:\n")
    print(f"{'client':<26}{'server':<11}", *[f"{name:>12}" for name in routes])
    for client, server in dict.fromkeys((key[0], key[1]) for key in matrix.cells):
        row = []
        for name in routes:
            cell = matrix.cells.get((client, server, name))
            bad = sum(1 for one in problems if one.cell is cell)
            row.append("-" if cell is None else f"{len(cell.findings) - bad}/{len(cell.findings)}")
        print(f"{client:<26}{server:<11}", *[f"{text:>12}" for text in row])
    print()
    for one in problems:
        print(f"FAILED {one.cell.name}: {one.check}: {one.problem}")
    return total - len(problems), len(problems)


def as_json(matrix: Matrix) -> list[dict[str, Any]]:
    return [
        {"cell": cell.name, "checks": {name: [one.seconds, one.reason] for name, one in cell.findings.items()}}
        for cell in matrix.cells.values()
    ]
