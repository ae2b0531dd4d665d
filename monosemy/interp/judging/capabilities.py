"""What a judge's endpoint can do, found out by asking it, and what its lack means."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from monosemy.errors import JudgeError
from monosemy.interp.judging.endpoint import PROBE_ROOM
from monosemy.interp.judging.judge import Judge


@dataclass(frozen=True)
class Capability:
    """One thing an endpoint can or cannot do."""

    name: str
    there: bool | None
    """None: it could not be found out."""
    note: str
    """How it is done, or why it is not there."""
    needed_for: str
    otherwise: str
    """What happens without it."""


async def probe_capabilities(judge: Judge) -> list[Capability]:
    """Asks the endpoint, a handful of short calls.

    Raises ``JudgeError`` for an endpoint that cannot be used at all: away, closed to us, without
    the model.
    """
    form = await judge.answer_format()
    capabilities = [
        Capability(
            "JSON schema",
            form == "json_schema",
            f"answers in {form}",
            "answers in the wanted shape at the first try",
            "answers are parsed strictly, and malformed ones asked for again",
        )
    ]
    there, reason = await _tried(judge.prompt_logprobs.check())
    capabilities.append(
        Capability(
            "prompt logprobs",
            there,
            reason,
            "simulation all at once: one short call for a text",
            "simulation asks for numbers in JSON: longer answers",
        )
    )
    there, reason = await _tried(judge.answer_logprobs())
    capabilities.append(
        Capability(
            "answer logprobs",
            there,
            reason,
            "nothing here: answers are read as they stand",
            "nothing is lost",
        )
    )
    there, reason = await _tried(judge.has_batches())
    capabilities.append(
        Capability(
            "Batch API",
            there,
            reason,
            "judge.batch: half the price at OpenAI, answers within a day",
            "judge.batch is refused",
        )
    )
    return capabilities


async def probe_manners(judge: Judge) -> list[str]:
    """What is out of the ordinary in how the endpoint is asked and answers, a sentence each.

    Asks once, as after a useless answer.  Raises ``JudgeError`` as ``probe_capabilities`` does.
    """
    there, trouble = await _tried(_asked_anew(judge))
    manners = [] if there else [f"Asked again after a useless answer, it fails: {trouble}"]
    refused = judge.provenance().get("dialect", {})
    if refused.get("left_out"):
        manners.append(f"It refuses {', '.join(refused['left_out'])}: left out.")
    if "limit" in refused:
        instead = f"{refused['limit']} is sent" if refused["limit"] else "answers have no limit"
        manners.append(f"It refuses max_tokens: {instead}.")
    if "least_temperature" in refused:
        manners.append(f"It refuses a temperature of 0: {refused['least_temperature']} is sent.")
    if not refused.get("system_role", True):
        manners.append("It refuses the system role: its text goes before the user's.")
    if judge.reasons_long:
        manners.append(
            f"It reasons through {PROBE_ROOM} tokens before it answers: raise "
            "judge.max_output_tokens (to 2048, say), or each first question is asked twice."
        )
    if judge.answer_place not in ("", "content"):
        manners.append(f"Its answers stand in {judge.answer_place}: they are taken from there.")
    if judge.token_counts is False:
        manners.append(
            "Its answers hold no token counts that can be read: each call counts with the most "
            "it can have cost."
        )
    return manners


async def _asked_anew(judge: Judge) -> tuple[bool, str]:
    await judge.ask_anew()
    return True, ""


async def _tried(asking: Awaitable[tuple[bool, str]]) -> tuple[bool | None, str]:
    """(whether it is there, how or why not); None where the endpoint's trouble hides it."""
    try:
        return await asking
    except JudgeError as error:
        return None, str(error)
