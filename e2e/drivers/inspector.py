"""The matrix's checks with the command line of the official inspector: `python -m drivers.inspector SPEC`.

Each request is a process and a session of its own. SPEC and what comes out are those of `python_sdk.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

LAUNCHER = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
TOOL_ERROR = 5
PASSED_ON = ("SHADOWCAT_E2E_SESSION", "PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


def request(spec: dict[str, Any], *words: str, status: int = 0) -> Any:
    """What the inspector says that the server answered."""
    reach = spec["reach"]
    command = ["node", os.path.join(os.environ["E2E_NODE"], LAUNCHER), "--cli", "--format", "json", "--quiet"]
    command += ["--protocol-era", spec["mode"]]
    if "command" in reach:
        for name in PASSED_ON:
            command += ["-e", f"{name}={os.environ.get(name, '')}"]
        command += [*words, "--", *reach["command"]]
    else:
        ((kind, url),) = reach.items()
        command += [*words, "--transport", kind, "--server-url", url]
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"HOME": home}
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=spec["patience"]
        )
    said = done.stderr.decode(errors="replace")
    assert done.returncode == status, f"status {done.returncode}, want {status}: {said[-400:]}"
    return json.loads(done.stdout.splitlines()[0])["result"]


def call(spec: dict[str, Any], tool: str, arguments: dict[str, Any], status: int = 0) -> Any:
    words = ["--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
    return request(spec, *words, status=status)


def lists(spec: dict[str, Any]) -> Any:
    found = request(spec, "--method", "tools/list")
    assert "echo" in [tool["name"] for tool in found["tools"]], "there is no echo tool"
    return found


def echo(spec: dict[str, Any]) -> Any:
    text = spec["hostile"]
    got = call(spec, "echo", {"message": text})["content"][0]["text"]
    want = text if spec["server"] == "dual" else f"Echo: {text}"
    assert got == want, f"want {want[:200]!r}, got {got[:200]!r}"


def tool_error(spec: dict[str, Any]) -> Any:
    tool, arguments = ("fail", {"message": "no"}) if spec["server"] == "dual" else ("get-sum", {"a": "x"})
    return call(spec, tool, arguments, TOOL_ERROR)


def read(spec: dict[str, Any]) -> Any:
    uri = "test://static-text" if spec["server"] == "dual" else "demo://resource/static/document/architecture.md"
    return request(spec, "--method", "resources/read", "--uri", uri)


CHECKS = {"lists": lists, "echo": echo, "tool error": tool_error, "read": read}


def main() -> None:
    spec = json.loads(sys.argv[1])
    for name in spec["checks"]:
        started, facts, reason = time.monotonic(), None, ""
        try:
            facts = CHECKS[name](spec)
        except AssertionError as error:
            reason = str(error)
        except Exception as error:
            reason = repr(error)[:600]
        seconds = round(time.monotonic() - started, 3)
        print(json.dumps({"check": name, "reason": reason, "facts": facts, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
