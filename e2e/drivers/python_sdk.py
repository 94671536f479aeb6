"""The matrix's checks with the official Python SDK's client: `python -m drivers.python_sdk SPEC`.

SPEC is JSON: the server's kind, how to reach it, the SDK's mode, the texts. One line of JSON goes to stdout for
each check. All checks share a session until one fails; the next one then gets a fresh session.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import Client, MCPDeprecationWarning, StdioServerParameters, stdio_client, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

LONG_OPERATION = "trigger-long-running-operation"
SIXTEEN_MIB, THREE_MIB = 16 << 20, 3 << 20


class Live:
    """One open session and what the server said in it without being asked."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.client: Client = None  # type: ignore[assignment]
        self.dual = spec["server"] == "dual"
        self.prompts: list[str] = []
        self.questions: list[str] = []
        self.logged: list[Any] = []
        self.updated: dict[str, anyio.Event] = {}
        self.told = anyio.Event()

    @property
    def modern(self) -> bool:
        return self.client.protocol_version >= "2026-07-28"

    def update_of(self, uri: str) -> anyio.Event:
        return self.updated.setdefault(uri, anyio.Event())

    async def sample(self, _context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        self.prompts.append(params.messages[0].content.text)  # type: ignore[union-attr]
        content = types.TextContent(type="text", text=self.spec["hostile"])
        return types.CreateMessageResult(role="assistant", model="a model", content=content, stop_reason="endTurn")

    async def elicit(self, _context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.questions.append(params.message)
        if len(self.questions) > 1:
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content={"name": self.spec["hostile"], "check": True})

    async def roots(self, _context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append([params.level, params.data])
        self.told.set()

    async def message(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.update_of(str(message.params.uri)).set()

    async def call(self, tool: str, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, f"{tool} failed: {str(result)[:300]}"
        return result.content[-1].text  # type: ignore[union-attr]


def transport(spec: dict[str, Any]) -> Any:
    reach = spec["reach"]
    if "command" in reach:
        command, *arguments = reach["command"]
        return stdio_client(StdioServerParameters(command=command, args=arguments, env=spec["environment"]))
    if "sse" in reach:
        return sse_client(reach["sse"])
    return streamable_http_client(reach["http"], max_sse_event_size=None)


@asynccontextmanager
async def opened(spec: dict[str, Any]) -> AsyncIterator[Live]:
    live = Live(spec)
    live.client = Client(
        transport(spec),
        mode=spec["mode"],
        read_timeout_seconds=spec["patience"],
        sampling_callback=live.sample,
        elicitation_callback=live.elicit,
        list_roots_callback=live.roots,
        logging_callback=live.log,
        log_level="error",
        message_handler=live.message,
        cache=None,
    )
    used = False
    try:
        async with live.client:
            yield live
            used = True
    except* anyio.BrokenResourceError:
        # What the SDK's HTTP+SSE client makes of a message that comes while it closes.
        if not used or "sse" not in spec["reach"]:
            raise


def dump(result: Any) -> Any:
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def opening(live: Live) -> Any:
    info = live.client.server_info
    return [live.client.protocol_version, dump(info) if info else None, dump(live.client.server_capabilities)]


async def lists(live: Live) -> Any:
    client = live.client
    tools = dump(await client.list_tools())
    assert "echo" in [tool["name"] for tool in tools["tools"]], "there is no echo tool"
    templates = dump(await client.list_resource_templates())
    return [tools, dump(await client.list_resources()), templates, dump(await client.list_prompts())]


async def echo(live: Live, text: str, what: str) -> None:
    got, want = await live.call("echo", message=text), text if live.dual else f"Echo: {text}"
    if got != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
        near = slice(max(0, at - 20), at + 20)
        raise AssertionError(
            f"{what}: {len(want)} characters sent, {len(got)} came back, different from {at}: "
            f"want {want[near]!r}, got {got[near]!r}"
        )


async def hostile_echo(live: Live) -> Any:
    for name, text in live.spec["texts"].items():
        await echo(live, text, name)


async def tool_error(live: Live) -> Any:
    name, arguments = ("fail", {"message": live.spec["hostile"]}) if live.dual else ("get-sum", {"a": "x"})
    result = await live.client.call_tool(name, arguments)
    assert result.is_error, f"no error: {str(result)[:300]}"
    words = result.content[0].text  # type: ignore[union-attr]
    assert not live.dual or live.spec["hostile"] in words, f"the message is not in the error: {words[:300]!r}"
    return words


async def progress(live: Live) -> Any:
    count, seen, complete = 100 if live.dual else 10, list[float](), anyio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        if len(seen) == count:
            complete.set()

    name, arguments = ("steps", {"count": count}) if live.dual else (LONG_OPERATION, {"duration": 0.2, "steps": count})
    result = await live.client.call_tool(name, arguments, progress_callback=note)
    assert not result.is_error, str(result)
    with anyio.move_on_after(live.spec["patience"] / 2):
        await complete.wait()
    assert sorted(seen) == list(range(1, count + 1)), f"progress: got {seen}"


async def sampling(live: Live) -> Any:
    prompt = live.spec["hostile"]
    name, arguments = ("ask_model", {}) if live.dual else ("trigger-sampling-request", {"maxTokens": 7})
    text = await live.call(name, prompt=prompt, **arguments)
    if not live.dual:
        text = json.loads(text.partition("\n")[2])["content"]["text"]
    assert text == live.spec["hostile"], f"the answer reached the server as {text[:200]!r}"
    assert live.prompts[-1].endswith(prompt), f"the prompt reached the client as {live.prompts[-1][:200]!r}"


async def elicitation(live: Live) -> Any:
    if live.dual:
        accepted = await live.call("ask_user", message=live.spec["hostile"])
        assert accepted == f"accept:{live.spec['hostile']}", f"got {accepted[:200]!r}"
        assert live.questions[-1] == live.spec["hostile"], f"the question came as {live.questions[-1][:200]!r}"
        declined = await live.call("ask_user", message="again")
        assert declined == "decline:", f"got {declined!r}"
        return
    for action in ("accept", "decline"):
        reported = json.loads((await live.call("trigger-elicitation-request")).partition(":")[2])
        assert reported["action"] == action, f"got {reported}"
        assert action == "decline" or reported["content"]["name"] == live.spec["hostile"], f"got {reported}"


async def read(live: Live) -> Any:
    if not live.dual:
        listed = (await live.client.list_resources()).resources
        return [dump(await live.client.read_resource(str(one.uri))) for one in listed]
    uris = ["test://static-text", "test://static-binary", "test://template/%F0%9F%98%88%0A/data"]
    return [dump(await live.client.read_resource(uri)) for uri in uris]


async def subscribe(live: Live) -> Any:
    uri = "test://watched-resource" if live.dual else "demo://resource/dynamic/text/7"
    if live.modern:
        async with live.client.listen(resource_subscriptions=[uri]) as subscription:
            await live.call("touch", uri=uri)
            event = await anext(aiter(subscription))
            assert uri in str(event), f"got {event}"
        return
    await live.client.subscribe_resource(uri)
    await live.call(*("touch",) if live.dual else ("toggle-subscriber-updates",), **({"uri": uri} if live.dual else {}))
    await live.update_of(uri).wait()
    if not live.dual:
        await live.call("toggle-subscriber-updates")
    await live.client.unsubscribe_resource(uri)


async def logs(live: Live) -> Any:
    live.told = anyio.Event()
    before = len(live.logged)
    if not live.modern:
        await live.client.set_logging_level("debug")
    if live.dual:
        await live.call("log", words=live.spec["hostile"])
    else:
        await live.client.subscribe_resource("demo://resource/dynamic/text/7")
    await live.told.wait()
    first = live.logged[before]
    assert not live.dual or first == ["error", live.spec["hostile"]], f"got {first}"
    # The other server names its session in what it logs.
    return first if live.dual else first[0]


async def cancellation(live: Live) -> Any:
    key = uuid.uuid4().hex
    with anyio.CancelScope() as scope:

        async def cancel(progress: float, total: float | None, message: str | None) -> None:
            scope.cancel()

        if live.dual:
            await live.client.call_tool("wait", {"key": key}, progress_callback=cancel)
        else:
            await live.client.call_tool(LONG_OPERATION, {"duration": 1, "steps": 10}, progress_callback=cancel)
    assert scope.cancelled_caught, "the call ended before it was cancelled"
    if live.dual:
        assert await live.call("cancelled", key=key) == "cancelled"
    await echo(live, "after the cancellation", "echo")


def filled(size: int, text: str) -> str:
    return (text * (size // len(text.encode()) + 1)).encode()[:size].decode(errors="ignore")


async def three_mib(live: Live) -> Any:
    await echo(live, filled(THREE_MIB, live.spec["hostile"]), "3 MiB of hostile text")
    await echo(live, "still here", "small")


async def sixteen_mib(live: Live) -> Any:
    await echo(live, filled(SIXTEEN_MIB, "plain text, some of it é and 😈. "), "16 MiB")
    await echo(live, "still here", "small")


async def fifty(live: Live) -> Any:
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            text = f"{number} {live.spec['hostile']}" * (1 + number % 7)
            tasks.start_soon(echo, live, text, f"call {number}")


async def ten_sessions(live: Live) -> Any:
    together = anyio.Event()
    waiting: list[int] = []

    async def one(number: int) -> None:
        async with opened(live.spec) as other:
            await echo(other, f"session {number}", f"session {number}")
            waiting.append(number)
            if len(waiting) == 10:
                together.set()
            await together.wait()
            await echo(other, f"session {number} again", f"session {number}")

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(one, number)


CHECKS: dict[str, Callable[[Live], Awaitable[Any]]] = {
    "open": opening,
    "lists": lists,
    "echo": hostile_echo,
    "tool error": tool_error,
    "progress": progress,
    "sampling": sampling,
    "elicitation": elicitation,
    "read": read,
    "subscribe": subscribe,
    "logging": logs,
    "cancellation": cancellation,
    "50 at once": fifty,
    "3 MiB": three_mib,
    "16 MiB": sixteen_mib,
    "10 sessions": ten_sessions,
}


def reason_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, AssertionError) else repr(error)[:600]


async def attempt(live: Live, name: str) -> bool:
    started, facts, reason = time.monotonic(), None, ""
    try:
        with anyio.fail_after(live.spec["patience"]):
            facts = await CHECKS[name](live)
    except Exception as error:
        reason = reason_of(error) or repr(error)
    report(name, reason, facts, time.monotonic() - started)
    return not reason


def report(name: str, reason: str, facts: Any, seconds: float) -> None:
    print(json.dumps({"check": name, "reason": reason, "facts": facts, "seconds": round(seconds, 3)}), flush=True)


async def run(spec: dict[str, Any]) -> None:
    todo = list(spec["checks"])
    while todo:
        before = len(todo)
        try:
            async with opened(spec) as live:
                while todo:
                    if not await attempt(live, todo.pop(0)):
                        break
        except Exception as error:
            # The session did not open, or did not close: whatever check is next has no session to run in.
            if not todo:
                report("close", reason_of(error), None, 0)
            elif before == len(todo):
                report(todo.pop(0), f"no session: {reason_of(error)}", None, 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    logging.disable()
    anyio.run(run, json.loads(sys.argv[1]))
