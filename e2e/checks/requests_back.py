"""Requests that the server sends to the client: sampling, elicitation, roots."""

from __future__ import annotations

import json
from typing import Any

from mcp import types
from pydantic import FileUrl

from checks.tools import text_of
from harness.model import Context, check, expect, expect_equal
from harness.sdk import session
from harness.texts import HOSTILE, text_of_bytes

ANSWER = "".join(HOSTILE.values())


@check("sampling", "the server's sampling request is answered by the client with hostile text")
async def sampling(context: Context) -> None:
    prompts: list[str] = []
    answers = [ANSWER, text_of_bytes(1 << 20, seed=1)]

    async def sample(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        prompts.append(params.messages[0].content.text)  # type: ignore[union-attr]
        content = types.TextContent(type="text", text=answers[len(prompts) - 1])
        return types.CreateMessageResult(role="assistant", model="a model", content=content, stop_reason="endTurn")

    async with session(context, sampling_callback=sample) as live:
        for answer in answers:
            result = await live.client.call_tool("trigger-sampling-request", {"prompt": ANSWER, "maxTokens": 7})
            reported = json.loads(text_of(result).partition("\n")[2])
            expect_equal("what the server got", reported["content"]["text"], answer)
    expect(all(prompt.endswith(ANSWER) for prompt in prompts), "the prompt did not reach the client as it was")
    context.fact("prompts", prompts)


@check("elicitation", "the server's question is answered: accepted, declined, cancelled")
async def elicitation(context: Context) -> None:
    content: dict[str, str | int | float | bool | list[str] | None]
    content = {"name": ANSWER, "check": True, "integer": 42, "number": 3.5, "untitledMultipleSelectEnum": ["Piano"]}
    answers = [
        types.ElicitResult(action="accept", content=content),
        types.ElicitResult(action="decline"),
        types.ElicitResult(action="cancel"),
    ]
    questions: list[Any] = []

    async def answer(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        questions.append(params.model_dump(mode="json"))
        return answers[len(questions) - 1]

    async with session(context, elicitation_callback=answer) as live:
        for sent in answers:
            result = await live.client.call_tool("trigger-elicitation-request", {})
            text = result.content[-1].text  # type: ignore[union-attr]
            reported = json.loads(text.partition(":")[2])
            expect_equal("action", reported["action"], sent.action)
            expect_equal("content", reported.get("content"), sent.content)
    context.fact("questions", questions)


@check("roots", "the server asks for the client's roots and lists them")
async def roots(context: Context) -> None:
    root = types.Root(uri=FileUrl("file:///tmp/%F0%9F%98%88%0A"), name=ANSWER)

    async def answer(_context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[root])

    async with session(context, list_roots_callback=answer) as live:
        text = text_of(await live.client.call_tool("get-roots-list", {}))
        expect(str(root.uri) in text and ANSWER in text, f"the root is not in the answer: {text[:200]!r}")
        context.fact("answer", text)
