"""Ends of sessions. That no process is left is checked after every session; here are the hard cases."""

from __future__ import annotations

import os
import signal

import anyio
from mcp import MCPError

from checks.tools import LONG_OPERATION
from harness.model import Context, check, expect
from harness.sdk import session


@check("close", "the server ends by itself, exit status 0, when the client closes; nothing is left")
async def close(context: Context) -> None:
    async with session(context) as live:
        await live.client.send_ping()
        expect(len(live.members()) >= 2, "the harness does not see the session's processes")


@check("close, busy server", "a server that stays after its input ended is ended with the session; nothing is left")
async def close_busy(context: Context) -> None:
    async with session(context, abrupt=True) as live:
        await live.client.call_tool("toggle-simulated-logging", {})  # its timer keeps the server alive


@check("killed, busy server", "after kill -9 of what the client started, a server that would stay is gone too")
async def killed_busy(context: Context) -> None:
    async with session(context, abrupt=True, tapped=False) as live:
        await live.client.call_tool("toggle-simulated-logging", {})
        (started,) = [process for process in live.members() if process.parent == os.getpid()]
        os.kill(started.pid, signal.SIGKILL)


@check("server dies", "a call whose server is killed fails with an error and does not hang")
async def server_dies(context: Context) -> None:
    async with session(context, abrupt=True, tapped=False) as live:

        async def kill(progress: float, total: float | None, message: str | None) -> None:
            (server,) = [process for process in live.members() if process.command == " ".join(context.everything)]
            os.kill(server.pid, signal.SIGKILL)

        try:
            with anyio.fail_after(context.patience):
                await live.client.call_tool(LONG_OPERATION, {"duration": 60, "steps": 600}, progress_callback=kill)
        except MCPError:
            return
        expect(False, "the call was answered although its server was killed")
