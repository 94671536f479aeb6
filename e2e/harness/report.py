"""The table: one row a check, one column a route, then the hashes of what crossed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model import Check, Findings, Flow, Route

NAME, CELL = 19, 14


@dataclass(frozen=True)
class Outcome:
    """One check on one route. No reason means it passed."""

    reason: str
    seconds: float
    findings: Findings
    workdir: Path

    @property
    def verdict(self) -> str:
        return "FAIL" if self.reason else "pass"


@dataclass(frozen=True)
class Row:
    """One check on every route."""

    check: Check
    outcomes: list[Outcome]

    def problems(self) -> list[str]:
        found = [
            f"{name}: {outcome.reason} (records in {outcome.workdir})"
            for name, outcome in zip(("direct", "through"), self.outcomes, strict=False)
            if outcome.reason
        ]
        if not found and len(self.outcomes) == 2:
            direct, through = (outcome.findings.facts for outcome in self.outcomes)
            for name in {**direct, **through}:
                if direct.get(name) != through.get(name):
                    found.append(f"{name} differs: direct {direct.get(name)}, through {through.get(name)}")
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check.name,
            "problems": self.problems(),
            "routes": [
                {
                    "verdict": outcome.verdict,
                    "seconds": round(outcome.seconds, 3),
                    "facts": outcome.findings.facts,
                    "flows": [_flow_json(flow) for flow in outcome.findings.flows],
                }
                for outcome in self.outcomes
            ],
        }


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _flow_json(flow: Flow) -> dict[str, Any]:
    return {
        "direction": flow.label,
        "bytes": len(flow.sent),
        "sent": _sha(flow.sent),
        "received": _sha(flow.received),
    }


def _flow_cell(flow: Flow) -> str:
    arrow = "→" if flow.label == "client to server" else "←"
    sign = "=" if flow.equal else "≠"
    return f"{arrow} {len(flow.sent):>9} B {_sha(flow.sent)[:10]} {sign} {_sha(flow.received)[:10]}"


def print_title(routes: list[Route]) -> None:
    for route in routes:
        if route.prefix:
            print(f"{route.name}: {' '.join(route.prefix)} COMMAND")
    print("Hashes: SHA-256 of what one end sent = of what the other received, on the last route of the row.\n")
    titles = [f"{route.name:<{CELL}}" for route in routes]
    print(f"{'check':<{NAME}}", *titles, "client → server, client ← server", sep=" | ")
    print("-" * NAME, *["-" * CELL for _ in routes], "-" * 60, sep="-+-", flush=True)


def print_row(row: Row) -> None:
    cells = [f"{outcome.verdict} {outcome.seconds:6.2f} s".ljust(CELL) for outcome in row.outcomes]
    flows = [_flow_cell(flow) for flow in row.outcomes[-1].findings.flows]
    print(f"{row.check.name:<{NAME}}", *cells, "  ".join(flows[:2]), sep=" | ")
    for start in range(2, len(flows), 2):
        print(" " * NAME, *[" " * CELL for _ in row.outcomes], "  ".join(flows[start : start + 2]), sep=" | ")
    for problem in row.problems():
        print(f"    {problem}")
    print(end="", flush=True)


def print_summary(rows: list[Row]) -> tuple[int, int]:
    """Say which rows failed; return how many passed everywhere and alike, and how many did not."""
    failed = [row for row in rows if row.problems()]
    print()
    for row in failed:
        print(f"FAILED {row.check.name}: {row.check.shows}")
    print(f"exact: {len(rows) - len(failed)} checks passed, {len(failed)} failed", flush=True)
    return len(rows) - len(failed), len(failed)
