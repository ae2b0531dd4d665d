"""What an endpoint's error means for the item that was asked for, and for all the others."""

from __future__ import annotations

import re

from monosemy.interp.judging.failures import EndpointError, KeyRefused, QuotaSpent, StatusError

_CHECK = "Check the judge's address, key and model name."
_REFUSED = {401, 402, 403, 404, 405}
"""Statuses that every other question would meet as well; redirects are such too."""
UNDERSTOOD_NOT = {400, 415, 422, 501}
"""Statuses of a request that the endpoint does not understand: it may be put otherwise."""

_QUOTA_CODES = re.compile(
    r"insufficient_(?:quota|balance|credits?|funds)|billing_(?:hard_limit|not_active|error)"
    r"|exceeded_current_quota|quota_exhausted|payment_required|budget_exceeded|arrear"
)
_QUOTA_WORDS = re.compile(
    r"exceeded your (?:current|monthly|assigned) quota|billing hard limit|payment required"
    r"|insufficient (?:quota|credits?|balance|funds)|balance is (?:too low|insufficient|negative)"
    r"|(?:requires?|need) more credits|(?:out of|no(?: remaining)?|add(?: more)?) credits"
    r"|spend(?:ing)? limit|account is not active|budget has been exceeded"
    r"|credits? (?:are|is|has been|have been) (?:depleted|exhausted|used up)"
)
_QUOTA_STATUSES = {400, 401, 402, 403, 412, 429}
_KEY_WORDS = re.compile(
    r"api[_ -]?key (?:is )?(?:not valid|invalid|missing|expired)|api_key_invalid|invalid_api_key"
    r"|(?:invalid|incorrect|missing|no|wrong) api[_ -]?key|authentication_error"
)
_MODEL_WORDS = re.compile(
    r"model_not_found|invalid_model|(?:invalid|unknown|no such|unsupported) model\b"
    r"|not a valid model|real ?model ?id"
    r"|\bmodels? [^.;]{0,120}?(?:does not exist|do(?:es)? not have access|not found|not available"
    r"|is not (?:supported|served|loaded|deployed))"
)
_MODERATION = re.compile(r"moderation|flagged|content[_ ](?:policy|filter)|prompt was blocked")


def ends_everything(
    error: StatusError, address: str, model: str | None, worked: bool
) -> EndpointError | None:
    """The error that ends all work with this endpoint, or None where it concerns one question.

    ``worked``: the endpoint has answered before.
    """
    text = f"{error.reason.codes} {error.reason.text.lower()}"
    if quota_spent(error):
        return QuotaSpent(
            f"The judge's quota at {address} is used up ({error}).",
            "Add credit or raise its limit, then run again: what is done is kept.",
        )
    if error.status == 403 and (_MODERATION.search(text) or (worked and error.reason.page)):
        return None  # it, or a firewall before it, does not like this one text
    hint = ""
    kind: type[EndpointError] = EndpointError
    about_model = _MODEL_WORDS.search(text) is not None
    if about_model and error.status in (*UNDERSTOOD_NOT, 403, 404):
        hint = (
            f"It does not have the model '{model}': " if model else "It does not have the model: "
        )
        hint += "see its list at /models, and name one in judge.model or MONOSEMY_JUDGE_MODEL. "
    elif error.status in (401, 403) or (error.status in (400, 422) and _KEY_WORDS.search(text)):
        hint, kind = "It does not accept the key (MONOSEMY_JUDGE_API_KEY). ", KeyRefused
    elif error.status == 404:
        hint = "There is no such route or model: the address mostly ends in /v1. "
    elif StatusError.redirects(error.status):
        hint = "Name the address that it leads to, if that is the judge's. "
    elif error.status not in _REFUSED:
        return None
    return kind(f"The judge at {address} refuses us ({error}).", hint + _CHECK)


def quota_spent(error: StatusError) -> bool:
    """Whether the account has nothing left, which is not the same as too many calls a minute."""
    if error.status == 402 or _QUOTA_CODES.search(error.reason.codes):
        return True
    if error.status not in _QUOTA_STATUSES or error.wait is not None:
        # Some say "quota" of a limit per minute; those tell when to come back.
        return False
    return _QUOTA_WORDS.search(error.reason.text.lower()) is not None
