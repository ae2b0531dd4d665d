"""What our judge client costs in CPU per call, beside the bare openai client.

    python benchmarks/client_overhead.py [--calls 400] [--concurrency 32] [--runs 5]

Both send the same detection questions to a local server (a process of its own) that answers after
50 ms.  Ours adds what a judge is for: ledger entries before and after, single flight, answer cache
(all questions differ), schema check, pacing.  CPU is the process's own (``time.process_time``),
over all calls, after a warm-up; sides are interleaved.  ``--json FILE`` adds the result as a line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import openai
from results import Line, append, machine

from monosemy.interp.judging.answers import object_schema
from monosemy.interp.judging.judge import Judge
from monosemy.specs import JudgeSpec

DELAY = 0.05
SCHEMA = object_schema({f"t{i}": {"type": "boolean"} for i in range(1, 6)})
ANSWER = json.dumps({"colour": "blue", **{f"t{i}": i % 2 == 0 for i in range(1, 6)}})
"""Of the probe, too, which asks for a colour."""
WARM_UP = 40


def serve(ready: Connection) -> None:
    """Answers any chat request after ``DELAY``, over bare asyncio, to cost the machine little."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = int(head.split("content-length:")[1].split("\r\n")[0])
                await reader.readexactly(size)
                await asyncio.sleep(DELAY)
                writer.write(REPLY)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


BODY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": ANSWER},
            }
        ],
        "usage": {"prompt_tokens": 500, "completion_tokens": 30, "total_tokens": 530},
    }
).encode()
REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    + BODY
)


def question(side: str, number: int) -> list[dict[str, str]]:
    """About as long as a detection call."""
    texts = "\n".join(f't{i}: "{side} text {number} {i} {"word " * 30}"' for i in range(1, 6))
    return [
        {"role": "system", "content": "You judge texts. " * 40},
        {"role": "user", "content": texts},
    ]


async def timed(
    count: int, concurrency: int, call: Callable[[int], Awaitable[Any]]
) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of ``count`` calls."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return time.process_time() - cpu, time.perf_counter() - wall


async def measure(
    url: str, side: str, options: argparse.Namespace, mark: int
) -> tuple[float, float]:
    """(CPU milliseconds per call, calls per second) of one side."""
    if side == "ours":
        spec = JudgeSpec(concurrency=options.concurrency)
        async with Judge(url, "key", "bench", spec) as judge:

            async def call(number: int) -> Any:
                return await judge.complete_json(question(f"{side}{mark}", number), SCHEMA)

            await timed(WARM_UP, options.concurrency, lambda number: call(-1 - number))
            cpu, wall = await timed(options.calls, options.concurrency, call)
    else:
        async with openai.AsyncOpenAI(base_url=url, api_key="key", max_retries=0) as client:
            form = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            }

            async def call(number: int) -> Any:
                return await client.chat.completions.create(
                    model="bench",
                    messages=question(f"{side}{mark}", number),  # type: ignore[arg-type]
                    response_format=form,  # type: ignore[arg-type]
                    max_tokens=160,
                    temperature=0.0,
                )

            await timed(WARM_UP, options.concurrency, lambda number: call(-1 - number))
            cpu, wall = await timed(options.calls, options.concurrency, call)
    return 1000 * cpu / options.calls, options.calls / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    timings: dict[str, list[tuple[float, float]]] = {"ours": [], "openai": []}
    for mark in range(options.runs):
        for side in timings if mark % 2 == 0 else reversed(timings):
            timings[side].append(asyncio.run(measure(url, side, options, mark)))
    server.terminate()
    cpu = {side: statistics.median(each[0] for each in rows) for side, rows in timings.items()}
    rate = {side: statistics.median(each[1] for each in rows) for side, rows in timings.items()}
    print(
        f"{options.calls} detection questions, {options.concurrency} at a time, answered after"
        f" {1000 * DELAY:.0f} ms; medians of {options.runs}"
    )
    print(f"{'':<10}{'CPU ms per call':>18}{'calls/s':>10}")
    for side in timings:
        print(f"{side:<10}{cpu[side]:>18.2f}{rate[side]:>10.0f}")
    over = cpu["ours"] - cpu["openai"]
    print(
        f"ours takes {over:.2f} ms of CPU more per call; the endpoint allows"
        f" {options.concurrency / DELAY:.0f} calls/s"
    )
    if options.json:
        work = f"{options.calls} calls, {options.concurrency} at a time, 50 ms each"
        peers = {"openai": cpu["openai"]}
        line = Line(
            "judge client", work, cpu["ours"], "ms CPU", peers, None, options.runs, machine()
        )
        append(options.json, line)


if __name__ == "__main__":
    main()
