"""The process in which chat templates are rendered: run as a file, it imports nothing of monosemy.

Standard input and output carry frames: four bytes of length, then JSON.  A request holds
``template``, ``chats``, ``variables``, ``seconds`` (of processor time for each chat), ``bytes``
(memory beyond what the process has) and ``characters`` (longest text).  Every chat gets a frame of
its own, in order: ``{"text"}``, or ``{"error", "costly"}``.  The kernel ends the process where a
chat takes longer; the caller sees that its answer is missing.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from pathlib import Path
from typing import IO, Any

LENGTH = struct.Struct(">I")


def read_frame(stream: IO[bytes]) -> Any:
    """The next frame; None where the stream has ended."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return json.loads(body) if len(body) == length else None


def write_frame(stream: IO[bytes], value: Any) -> None:
    """Half a surrogate pair is kept, as JSON writes it: the texts are foreign."""
    body = json.dumps(value).encode("ascii")
    stream.write(LENGTH.pack(len(body)) + body)


def main() -> None:
    """Answers requests until standard input ends."""
    frames_in, frames_out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints gets between the frames
    # Tokenizers and torch are not needed, and cost a second and half a gigabyte.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from transformers.utils.chat_template_utils import render_jinja_template

    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(kind, (0, 0))
    start = _address_space()
    while (request := read_frame(frames_in)) is not None:
        if start is not None:
            _limit(resource.RLIMIT_AS, start + request["bytes"])
        for chat in request["chats"]:
            _allow_seconds(request["seconds"])
            answer = _rendered(render_jinja_template, chat, request)
            write_frame(frames_out, answer)
            frames_out.flush()
            if answer.get("exhausted"):
                return  # its memory may be in pieces: the next one starts afresh


def _rendered(render: Any, chat: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        texts, _ = render([chat], chat_template=request["template"], **request["variables"])
    except MemoryError:
        return {"error": "it needs too much memory", "costly": True, "exhausted": True}
    except Exception as error:  # a template may raise whatever Jinja and Python can
        return {"error": f"{str(error)[:2000] or type(error).__name__}", "costly": False}
    if len(texts[0]) > request["characters"]:
        long = f"it writes {len(texts[0])} characters, more than {request['characters']}"
        return {"error": long, "costly": True}
    return {"text": texts[0]}


def _allow_seconds(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    _limit(resource.RLIMIT_CPU, spent + 1 + seconds)


def _limit(kind: int, wanted: int) -> None:
    """The soft limit alone: it must be raised again."""
    _, hard = resource.getrlimit(kind)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (soft, hard))


def _address_space() -> int | None:
    """Bytes of address space that the process has now; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return None
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
