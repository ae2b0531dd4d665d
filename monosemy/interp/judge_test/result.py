"""What a judge's test came to: how often it was right, beside what guessing gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from monosemy.errors import DataError

Role = Literal["explaining", "detecting"]
ROLES: tuple[Role, ...] = get_args(Role)
Verdict = Literal["chance", "weak", "good"]

GOOD_SKILL = 0.5
"""From half of the way between guessing and always right on, a judge is good."""

_DOES = {"explaining": "It explains", "detecting": "It detects"}
_INSTEAD = {
    "explaining": "Its explanations are noise. Name a better judge (MONOSEMY_JUDGE_URL and _MODEL, "
    "or judge.url and judge.model); every feature has an evidence label without one.",
    "detecting": "Its scores are noise. Take a scorer that asks no judge (embedding, intervention, "
    "surprisal), or name a better judge (MONOSEMY_JUDGE_URL and _MODEL, or judge.url and "
    "judge.model).",
}


_WEAK = "Read what it gives with care, or name a better judge."


@dataclass(frozen=True)
class JudgeTestBrief:
    """The test result given with every answer of a tested judge; the fields are ``RoleTest``'s."""

    role: Role
    accuracy: float
    low: float
    high: float
    n: int
    n_failed: int
    chance: float
    verdict: Verdict

    def __str__(self) -> str:
        words = {"chance": "at chance", "weak": "weakly", "good": "well"}
        failed = f", {self.n_failed} without a usable answer" if self.n_failed else ""
        return (
            f"{_DOES[self.role]} {words[self.verdict]}: {self.accuracy:.2f} right (95 % "
            f"{self.low:.2f} to {self.high:.2f}, n = {self.n}{failed}; guessing {self.chance:.2f})."
        )

    @property
    def advice(self) -> str | None:
        """What to do about a judge that is not good; None for a good one."""
        if self.verdict == "good":
            return None
        return _INSTEAD[self.role] if self.verdict == "chance" else _WEAK

    def warning(self) -> str | None:
        """The result with ``advice``, or None."""
        return f"{self} {self.advice}" if self.advice else None


@dataclass(frozen=True)
class RoleTest:
    """A judge's test in one role.  Questions without a usable answer count as answered wrong."""

    role: Role
    accuracy: float
    """Explaining: share of planted concepts that its explanations name.  Detecting: balanced
    accuracy, (share of fitting texts found + share of others refused) / 2."""
    low: float
    high: float
    """95 % interval."""
    n: int
    """Questions."""
    n_failed: int
    """Of these without a usable answer."""
    chance: float
    """What needs no understanding.  Explaining: explanations of other concepts (the mean over all
    pairs), or the marked words repeated, whichever gives more.  Detecting: 0.5."""
    advantage_low: float
    """Lower end of the 95 % interval of accuracy - chance."""
    families: dict[str, dict[str, int]] = field(default_factory=dict)
    """``right`` of ``n`` by family of concept."""
    usage: dict[str, int] = field(default_factory=dict)
    """Tokens and calls that it took."""

    @property
    def skill(self) -> float:
        """0 is guessing, 1 always right."""
        return (self.accuracy - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0

    @property
    def verdict(self) -> Verdict:
        """``chance`` where the interval does not clear guessing; ``weak`` below half of the way
        from guessing to always right; else ``good``."""
        if self.advantage_low <= 0:
            return "chance"
        return "good" if self.skill >= GOOD_SKILL else "weak"

    def __str__(self) -> str:
        return str(self.brief())

    @property
    def advice(self) -> str | None:
        """What to do about a judge that is not good; None for a good one."""
        return self.brief().advice

    def warning(self) -> str | None:
        """The result with ``advice``, or None."""
        return self.brief().warning()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; read by ``from_dict``.  It includes the verdict."""
        return {**asdict(self), "verdict": self.verdict}

    def brief(self) -> JudgeTestBrief:
        """The part given with every score or explanation of this judge."""
        return JudgeTestBrief(
            **{each.name: getattr(self, each.name) for each in fields(JudgeTestBrief)}
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RoleTest:
        """``DataError`` for what is no test; keys of later versions are left out."""
        known = {each.name for each in fields(cls)}
        try:
            return cls(**{key: value for key, value in data.items() if key in known})
        except TypeError as error:
            raise DataError(f"This is no judge's test: {error}.") from None
