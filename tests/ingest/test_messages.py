"""Messages: the answer and the prompt in the payloads of many tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from abtest.ingest.messages import Answer, answer, prompt

CALL = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def chat(reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "r1",
        "model": "m",
        "choices": [{"finish_reason": reason, "message": {"role": "assistant", **message}}],
    }


@pytest.mark.parametrize(
    ("payload", "text", "refused", "reason"),
    [
        (chat(content="Hi", refusal=None), "Hi", False, "stop"),
        (chat(content="Hi"), "Hi", None, "stop"),  # a wrapper that drops refusals says nothing
        (chat(content=None, refusal="No."), "No.", True, "stop"),
        (chat("tool_calls", content=None, refusal=None, tool_calls=CALL), "", False, "tool"),
        (chat("content_filter", content="", refusal=None), "", None, "content_filter"),
        (chat(content=None, refusal=None), "", None, "stop"),
        ({"choices": [{"text": "Hi", "finish_reason": "length"}]}, "Hi", None, "length"),
        ({"choices": []}, None, None, None),
        ({"choices": [None]}, None, None, None),
        ({"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}, "b"]}, "ab", None, None),
        (
            {"type": "message", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"},
            "Hi",
            False,
            "stop",
        ),
        ({"type": "message", "content": [{"type": "tool_use"}], "stop_reason": "tool_use"}, "", False, "tool"),
        ({"type": "message", "content": [], "stop_reason": "refusal"}, "", True, "refusal"),
        ({"output": "Hi"}, "Hi", None, None),
        ({"output": {"role": "assistant", "content": "Hi"}}, "Hi", None, None),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Hi"}]}, "Hi", None, None),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", None, None),
        ([], None, None, None),
        ([[[[[{"content": "deep"}]]]]], None, None, None),
        ({"output": {"output": {"output": {"output": "deep"}}}}, None, None, None),
        ({"city": "Paris"}, None, None, None),
        ("Hi", "Hi", None, None),
        ('{"city": "Paris"}', '{"city": "Paris"}', None, None),
        ("", None, None, None),
        (None, None, None, None),
        (7, None, None, None),
    ],
)
def test_answer(payload: Any, text: str | None, refused: bool | None, reason: str | None) -> None:
    found = answer(payload)
    assert (found.text, found.refused, found.reason) == (text, refused, reason)
    if isinstance(payload, dict):
        again = answer(json.dumps(payload))  # stored as JSON text
        assert (again.text == text) or found == Answer()


def response(*entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"object": "response", "id": "resp", "status": "completed", "output": list(entries), **fields}


@pytest.mark.parametrize(
    ("payload", "text", "refused", "reason"),
    [
        (response({"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}), "Hi", False, "stop"),
        (response({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}), "No.", True, "stop"),
        (response({"type": "function_call", "name": "f"}), "", False, "tool"),
        (response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "", None, "length"),
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}), "", None, "content_filter"),
        (response(status="failed"), "", None, None),
    ],
)
def test_responses_api(payload: Any, text: str, refused: bool | None, reason: str | None) -> None:
    found = answer(payload)
    assert (found.text, found.refused, found.reason, found.response_id) == (text, refused, reason, "resp")


def test_langchain_without_a_message() -> None:
    found = answer(
        {"generations": [[{"text": "Hi", "generation_info": {"finish_reason": "stop"}}]], "llm_output": None}
    )
    assert (found.text, found.reason, found.refused) == ("Hi", "stop", None)
    assert answer({"generations": []}) == Answer()
    assert answer({"generations": [{"text": "flat"}]}).text == "flat"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("Hi", "Hi"),
        ('["a","b"]', "a\nb"),
        ('{"question":"why?"}', "why?"),
        ('{"x":1}', '{"x":1}'),
        ({"x": 1}, None),
        ({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"text": "U"}]}]}, "S\nU"),
        ({"messages": [[{"kwargs": {"content": "nested"}}]]}, "nested"),
        ({"input": "I", "model": "m"}, "I"),
        ({"prompts": ["P", "Q"]}, "P\nQ"),
        ([{"type": "text", "text": "T"}], "T"),
        ([], None),
        ([[[[[["deep"]]]]]], None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_prompt(payload: Any, expected: str | None) -> None:
    assert prompt(payload) == expected
