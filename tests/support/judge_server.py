"""A judge of its own process (``python judge_server.py PORT FAULTS``): fast, and unreliable.

Answers after 50 ms.  A share FAULTS of the calls gets, by a seeded random number, a 429 with
Retry-After, a 503, silence longer than the client waits, an answer cut off, or one that is no JSON.
``GET /ledger`` tells what it saw: one entry per request, in order of arrival.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import zlib
from typing import Any

import uvicorn

DELAY, SILENCE = 0.05, 3.0


class JudgeServer:
    def __init__(self, faults: float) -> None:
        self.faults = faults
        self.random = random.Random(0)
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].endswith("/ledger"):
            await reply(send, 200, json.dumps(self.seen))
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = dict(scope["headers"])
        entry = {"id": headers.get(b"x-request-id", b"").decode(), "status": None}
        self.seen.append(entry)
        text, status, extra = await self.answered(json.loads(body))
        if status == 200:
            answer = completion(text, "length" if extra == "cut" else "stop")
            entry |= {"status": 200, "tokens": list(answer["usage"].values())[:2]}
            await reply(send, 200, json.dumps(answer))
        else:
            entry["status"] = status
            after = [(b"retry-after", b"0.1")] if status == 429 else []
            await reply(send, status, json.dumps({"error": {"message": "not now"}}), after)

    async def answered(self, request: dict[str, Any]) -> tuple[str, int, str]:
        await asyncio.sleep(DELAY)
        text = wanted(request)
        luck = self.random.random()
        if luck >= self.faults:
            return text, 200, ""
        kind = int(luck / self.faults * 5)
        if kind == 0:
            return "", 429, ""
        if kind == 1:
            return "", 503, ""
        if kind == 2:
            await asyncio.sleep(SILENCE)
            return text, 200, ""
        return (text[: len(text) // 3], 200, "cut") if kind == 3 else ("Well, I think", 200, "")


def wanted(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    if content.startswith("Which colour"):
        return '{"colour": "blue"}'
    names = re.findall(r"^(t\d+): \"", content, re.MULTILINE)
    number = zlib.crc32(content.encode()) % 100_000
    if names:
        return json.dumps({name: (number >> i) & 1 == 0 for i, name in enumerate(names)})
    return json.dumps(
        {
            "label": f"topic {number}",
            "explanation": f"Sentences which concern subject number {number} and what is near it.",
            "kind": "input",
            "confidence": "medium",
            "evidence": ["e1"],
        }
    )


def completion(text: str, finish: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {"prompt_tokens": 200, "completion_tokens": len(text), "total_tokens": 200},
    }


async def reply(send: Any, status: int, text: str, extra: Any = ()) -> None:
    headers = [(b"content-type", b"application/json"), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


if __name__ == "__main__":
    uvicorn.run(
        JudgeServer(float(sys.argv[2])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        access_log=False,
    )
