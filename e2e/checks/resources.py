"""Resources and logging: reading, subscribing, and what the server says without being asked."""

from __future__ import annotations

import base64
from typing import Any

import anyio
from mcp import types

from harness.model import Context, check, expect, expect_equal
from harness.sdk import Live, session

TEXT_URI = "demo://resource/dynamic/text/7"
BLOB_URI = "demo://resource/dynamic/blob/7"


@check("resources", "static text and dynamic text and blobs are read alike")
async def read(context: Context) -> None:
    async with session(context) as live:
        for resource in (await live.client.list_resources()).resources:
            result = await live.client.read_resource(str(resource.uri))
            context.fact(f"resource {resource.uri}", result.model_dump(mode="json"))
        # These two carry the time of day, so only what stays the same is compared.
        (text,) = (await live.client.read_resource(TEXT_URI)).contents
        expect(text.text.startswith("Resource 7: "), f"wrong text {text!r}")  # type: ignore[union-attr]
        (blob,) = (await live.client.read_resource(BLOB_URI)).contents
        decoded = base64.b64decode(blob.blob)  # type: ignore[union-attr]
        expect(decoded.startswith(b"Resource 7: "), f"wrong blob {decoded!r}")


@check("subscribe", "an update arrives for a resource that was subscribed to")
async def subscribe(context: Context) -> None:
    updated, updates = anyio.Event(), list[str]()

    async def handle(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            updates.append(str(message.params.uri))
            updated.set()

    async with session(context, message_handler=handle) as live:
        await live.client.subscribe_resource(TEXT_URI)
        await live.client.call_tool("toggle-subscriber-updates", {})
        with anyio.fail_after(context.patience):
            await updated.wait()
        await live.client.call_tool("toggle-subscriber-updates", {})  # its timer would keep the server alive
        await live.client.unsubscribe_resource(TEXT_URI)
    expect_equal("updated", updates[0], TEXT_URI)


@check("logging", "log messages arrive at the level asked for, and not below it")
async def logging(context: Context) -> None:
    arrived, messages = anyio.Event(), list[Any]()

    async def log(params: types.LoggingMessageNotificationParams) -> None:
        messages.append((params.level, params.data))
        arrived.set()

    async with session(context, logging_callback=log) as live:
        await live.client.set_logging_level("error")
        await live.client.subscribe_resource(TEXT_URI)
        expect_equal("messages below the level", _logged(live), 0)
        await live.client.set_logging_level("debug")
        await live.client.subscribe_resource(TEXT_URI)
        expect_equal("messages on the wire", _logged(live), 1)
        with anyio.fail_after(context.patience):
            await arrived.wait()
    context.fact("messages", messages)


def _logged(live: Live) -> int:
    """How many log messages have arrived; the reply that came behind them is already here."""
    return live.wire.received.count(b'"notifications/message"')
