"""Calling tools: hostile text, large text, many at once, progress and cancellation."""

from __future__ import annotations

import json
from typing import Any

import anyio
from mcp import ClientSession
from mcp.types import CallToolResult

from harness.model import Context, check, expect, expect_equal
from harness.sdk import session
from harness.texts import HOSTILE, long_text, text_of_bytes

LONG_OPERATION = "trigger-long-running-operation"
FOUR_MIB = 4 << 20


def text_of(result: CallToolResult) -> str:
    expect(not result.is_error, f"the tool failed: {result}")
    (content,) = result.content
    return content.text  # type: ignore[union-attr]


async def echo(client: ClientSession, message: str, what: str) -> None:
    expect_equal(what, text_of(await client.call_tool("echo", {"message": message})), f"Echo: {message}")


def frames(data: bytes | bytearray) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bytes(data).splitlines()]


@check("echo", "hostile text comes back character for character")
async def hostile_echo(context: Context) -> None:
    async with session(context) as live:
        for name, text in HOSTILE.items():
            await echo(live.client, text, name)
        await echo(live.client, "".join(HOSTILE.values()), "all together")


@check("structured", "structured content and its schema survive")
async def structured(context: Context) -> None:
    async with session(context) as live:
        result = await live.client.call_tool("get-structured-content", {"location": "Chicago"})
        context.fact("result", result.model_dump(mode="json"))
        context.fact("sum", text_of(await live.client.call_tool("get-sum", {"a": 2**53 - 1, "b": -0.5})))


@check("4 MiB", "one message of 4 MiB each way, and a small one right behind it")
async def four_mib(context: Context) -> None:
    async with session(context) as live:
        await echo(live.client, text_of_bytes(FOUR_MIB, seed=4), "4 MiB of hostile text")
        await echo(live.client, "x" * FOUR_MIB, "4 MiB of one letter")
        await echo(live.client, "still here", "small")


@check("50 at once", "fifty calls in flight at once each get their own answer")
async def concurrent(context: Context) -> None:
    async with session(context) as live, anyio.create_task_group() as tasks:
        for number in range(50):
            text = long_text(1 + 700 * number, seed=number)
            tasks.start_soon(echo, live.client, text, f"call {number}")


@check("progress", "every progress notification arrives, in order, before the reply")
async def progress(context: Context) -> None:
    steps, seen = 10, list[tuple[float, float | None]]()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    async with session(context) as live:
        arguments = {"duration": 0.2, "steps": steps}
        result = await live.client.call_tool(LONG_OPERATION, arguments, progress_callback=note)
        expect("completed" in text_of(result), "the operation did not complete")
        wire = frames(live.wire.received)
    expect_equal("progress on the wire", _progress_before_reply(wire), [*range(1, steps + 1), "reply"])
    expect_equal("progress at the callback", sorted(seen), [(step, steps) for step in range(1, steps + 1)])


def _progress_before_reply(wire: list[dict[str, Any]]) -> list[Any]:
    found: list[Any] = []
    for frame in wire:
        if frame.get("method") == "notifications/progress":
            found.append(frame["params"]["progress"])
        elif "completed" in json.dumps(frame.get("result", "")):
            found.append("reply")
    return found


@check("cancellation", "the server sees the cancellation, does not answer, and the session goes on")
async def cancellation(context: Context) -> None:
    async with session(context) as live:
        with anyio.CancelScope() as scope:

            async def cancel(progress: float, total: float | None, message: str | None) -> None:
                scope.cancel()

            # Long enough to be cancelled at its first step, short enough to let the server close by itself.
            await live.client.call_tool(LONG_OPERATION, {"duration": 1, "steps": 10}, progress_callback=cancel)
        expect(scope.cancelled_caught, "the call ended before it was cancelled")
        # The answer to what was sent later shows that the server has read what was sent before.
        await live.client.send_ping()
        server_read = frames(live.server_has_received())
        (call,) = [frame for frame in server_read if frame.get("method") == "tools/call"]
        cancelled = [frame["params"]["requestId"] for frame in server_read if "cancelled" in frame.get("method", "")]
        expect_equal("cancelled ids at the server", cancelled, [call["id"]])
        await echo(live.client, "after the cancellation", "echo")
    answers = [frame["id"] for frame in frames(live.wire.received) if "method" not in frame]
    expect(call["id"] not in answers, "the cancelled call was answered")
