"""Opening a session and asking what the server has, in both eras and through npx."""

from __future__ import annotations

from typing import Any

from mcp import Client
from pydantic import BaseModel

from harness.model import Context, check, expect, expect_equal
from harness.sdk import session, transport
from harness.texts import HOSTILE


def dump(result: BaseModel | None) -> Any:
    assert result is not None
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


@check("initialize", "the handshake completes and says the same about the server")
async def initialize(context: Context) -> None:
    async with session(context) as live:
        result = live.client.initialize_result
        assert result is not None
        expect_equal("server", result.server_info.name, "mcp-servers/everything")
        context.fact("result", dump(result))


@check("list", "tools, resources, templates and prompts are listed alike")
async def lists(context: Context) -> None:
    async with session(context) as live:
        tools = await live.client.list_tools()
        expect("echo" in [tool.name for tool in tools.tools], "no echo tool")
        context.fact("tools", dump(tools))
        context.fact("resources", dump(await live.client.list_resources()))
        context.fact("templates", dump(await live.client.list_resource_templates()))
        prompts = await live.client.list_prompts()
        expect(bool(prompts.prompts), "no prompts")
        context.fact("prompts", dump(prompts))


@check("prompts", "a prompt with hostile arguments is filled in alike, completion works")
async def prompts(context: Context) -> None:
    async with session(context) as live:
        city = HOSTILE["emoji"] + HOSTILE["line separators"]
        prompt = await live.client.get_prompt("args-prompt", {"city": city, "state": HOSTILE["quotes"]})
        expect(city in str(prompt.messages[0].content.text), "the city is not in the prompt")  # type: ignore[union-attr]
        context.fact("prompt", dump(prompt))


@check("ping", "pings are answered, one after another")
async def ping(context: Context) -> None:
    async with session(context) as live:
        for _ in range(25):
            await live.client.send_ping()


@check("auto-negotiation", "the SDK's default client probes, is refused, and falls back to the handshake")
async def auto_negotiation(context: Context) -> None:
    async with transport(context) as (streams, wire, _records, _mark):
        async with Client(_Opened(streams), read_timeout_seconds=context.patience) as client:
            context.fact("protocol", client.protocol_version)
            result = await client.call_tool("echo", {"message": HOSTILE["emoji"]})
            expect_equal("echo", result.content[0].text, f"Echo: {HOSTILE['emoji']}")  # type: ignore[union-attr]
        expect(b'"server/discover"' in wire.sent, "the client did not probe")


@check("modern-era", "a server of 2026-07-28 is discovered and called without a handshake")
async def modern_era(context: Context) -> None:
    server = [context.python, str(context.fixtures / "modern.py")]
    async with transport(context, command=server) as (streams, wire, _records, _mark):
        async with Client(_Opened(streams), read_timeout_seconds=context.patience) as client:
            expect_equal("protocol", client.protocol_version, "2026-07-28")
            context.fact("tools", dump(await client.list_tools()))
            for name, text in HOSTILE.items():
                result = await client.call_tool("echo", {"message": text})
                expect_equal(name, result.content[0].text, text)  # type: ignore[union-attr]
        expect(b'"initialize"' not in wire.sent, "the client fell back to the handshake")


@check("npx", "the same server started by npx: handshake, lists, echo, close")
async def npx(context: Context) -> None:
    async with session(context, command=context.npx, cwd=context.npx_cwd, tapped=False) as live:
        context.fact("handshake", dump(live.client.initialize_result))
        context.fact("tools", dump(await live.client.list_tools()))
        for name, text in HOSTILE.items():
            result = await live.client.call_tool("echo", {"message": text})
            expect_equal(name, result.content[0].text, f"Echo: {text}")  # type: ignore[union-attr]


class _Opened:
    """A transport that is open already, in the shape `Client` takes."""

    def __init__(self, streams: Any) -> None:
        self._streams = streams

    async def __aenter__(self) -> Any:
        return self._streams

    async def __aexit__(self, *_: object) -> None:
        return None
