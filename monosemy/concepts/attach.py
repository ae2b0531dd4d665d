"""Concepts deactivated in any torch module, such as the text encoder of a diffusion pipeline.

    host = HostModel.wrap(pipe.text_encoder, pipe.tokenizer, "sd")
    with deactivated_in(sae_folder.hosted(host), [concept.concept]) as attached:
        image = pipe(prompt).images[0]
    attached.forwards  # what the texts of each forward were flagged for

Each row of a forward is one text.  One that is flagged goes on with the flagged concepts' features
deactivated, another with its activations bit for bit.  Needs torch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from monosemy.concepts.deactivation import Deactivation, held_against
from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.rows import joined
from monosemy.models.hook_points import Edit, Editor, HookPoint, Side
from monosemy.saes.base import SAE
from monosemy.specs.concepts import FittedConcept
from monosemy.specs.inference.steering import HeldConcept

MOST_FORWARDS = 64
"""Of which is kept what their texts were flagged for."""
_HERE = "here"
"""Stands for the site, which a module need not have a name for."""


@dataclass(frozen=True)
class TextTokens:
    """How the tokens of the texts are known: by the ids that ``encoder`` is called with."""

    encoder: nn.Module
    """Takes ``input_ids`` and perhaps ``attention_mask``, and runs the hooked module."""
    bos_id: int | None
    """Is left out where a text begins with it."""
    end_id: int | None = None
    """Ends a text: what comes after its first one is padding."""

    def counted(self, ids_BS: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Bool ``[B, S]``: neither BOS nor padding."""
        counts_BS = torch.ones_like(ids_BS, dtype=torch.bool) if mask_BS is None else mask_BS.bool()
        begins_BS = counts_BS & (counts_BS.cumsum(-1) == 1)
        if self.bos_id is not None:
            counts_BS = counts_BS & ~(begins_BS & (ids_BS == self.bos_id))
        if self.end_id is not None:
            ends_BS = (ids_BS == self.end_id) & counts_BS
            counts_BS = counts_BS & (ends_BS.cumsum(-1) - ends_BS.long() == 0)
        return counts_BS


@dataclass
class Attached:
    """Concepts that hold in a module while it is hooked."""

    forwards: deque[list[list[HeldConcept]]] = field(
        default_factory=lambda: deque(maxlen=MOST_FORWARDS)
    )
    """The last forwards, oldest first (a pipeline may read its negative prompt after the prompt):
    of each row every concept, in the order given."""

    @property
    def held(self) -> list[list[HeldConcept]]:
        """Of the last forward; empty before there is one."""
        return self.forwards[-1] if self.forwards else []


@contextmanager
def deactivated(
    module: nn.Module,
    sae: SAE,
    concepts: Sequence[FittedConcept],
    tokens: TextTokens | None = None,
    *,
    side: Side = "output",
    padding: bool = False,
) -> Iterator[Attached]:
    """While it is open, ``concepts`` hold in every forward of ``module``, whose first result (or,
    by ``side``, first argument) ``[B, S, width]`` is what ``sae`` reads and writes.

    Without ``tokens`` all but the first of each row count, as in the paper.  ``padding``: of a
    flagged text what pads it is deactivated too, as a diffusion model reads it; it never counts
    towards the score.  Hooks belong to the module: no other thread may run it meanwhile.

    ``DataError`` at once for an SAE that writes elsewhere than it reads and for features that it
    has not; in a forward for activations of another width or shape, and ids that are not seen.
    """
    holding = _Holding(sae, concepts, tokens, padding)
    with _open(holding, lambda: [(HookPoint(module, side), holding.edit)]):
        yield holding.attached


@contextmanager
def deactivated_in(
    hosted: HostedSAE, concepts: Sequence[FittedConcept], *, padding: bool = False
) -> Iterator[Attached]:
    """The same at the site of an SAE in its host model, in whoever's forward of its modules; BOS
    and padding are known.  The host model's lock is held: other threads wait.
    """
    host = hosted.host
    tokens = TextTokens(host.model, host.bos_id, host.abilities.text_end)
    if hosted.hooks.transcodes:
        raise _elsewhere()
    holding = _Holding(hosted.sae, concepts, tokens, padding)
    with (
        host.opened() as opened,
        _open(holding, lambda: opened.sites.plan({hosted.site: holding.edit})),
    ):
        yield holding.attached


@contextmanager
def _open(
    holding: _Holding, plan: Callable[[], Sequence[tuple[HookPoint, Edit]]]
) -> Iterator[None]:
    with ExitStack() as stack:
        editor = stack.enter_context(Editor(plan(), first=True))
        if holding.tokens is not None:
            stack.callback(holding.watch(holding.tokens.encoder, editor).remove)
        yield


class _Holding:
    """What the hooks share."""

    def __init__(
        self,
        sae: SAE,
        concepts: Sequence[FittedConcept],
        tokens: TextTokens | None,
        padding: bool,
    ) -> None:
        if sae.d_in != sae.d_out:
            raise _elsewhere()
        for each in concepts:
            if not isinstance(each, FittedConcept):
                raise DataError(
                    f"A concept is a FittedConcept, not {type(each).__name__}.",
                    "Take .concept of what monosemy.concept or client.concepts.get gives.",
                )
        self.attached = Attached()
        self.tokens = tokens
        self._sae, self._concepts, self._padding = sae, tuple(concepts), padding
        self._changes: dict[tuple[int, ...], Interventions] = {}
        self._change(tuple(range(len(self._concepts))))  # raises for features that are not there
        self._counted: Tensor | None = None

    def watch(self, encoder: nn.Module, editor: Editor) -> Any:
        """Hooks ``encoder`` for the ids of each forward."""

        def see(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            ids_BS = kwargs.get("input_ids", args[0] if args else None)
            self._counted = editor.shape = None
            if isinstance(ids_BS, Tensor) and ids_BS.ndim == 2 and not ids_BS.is_floating_point():
                assert self.tokens is not None
                mask_BS = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
                self._counted = self.tokens.counted(ids_BS, mask_BS)
                editor.shape = int(ids_BS.shape[0]), int(ids_BS.shape[1])

        return encoder.register_forward_pre_hook(see, with_kwargs=True)

    def edit(self, acts_BSD: Tensor) -> Tensor:
        if acts_BSD.ndim != 3 or acts_BSD.shape[-1] != self._sae.d_in:
            raise DataError(
                f"The module gives {tuple(acts_BSD.shape)}; the SAE takes [texts, tokens,"
                f" {self._sae.d_in}].",
                "Hook the module that the SAE was trained on.",
            )
        counts_BS = self._counts(acts_BSD)
        self.attached.forwards.append(
            [
                held_against(self._sae, x_SD[counts_S], self._concepts)
                for x_SD, counts_S in zip(acts_BSD, counts_BS, strict=True)
            ]
        )
        flagged = [
            tuple(number for number, each in enumerate(held) if each.flagged)
            for held in self.attached.held
        ]
        where_BS = self._reached(counts_BS)
        changes = [self._change(numbers) if numbers else None for numbers in flagged]
        edit = joined(changes, where_BS, 0).get(_HERE)
        return acts_BSD if edit is None else edit(acts_BSD)

    def _counts(self, acts_BSD: Tensor) -> Tensor:
        if self.tokens is None:
            counts_BS = torch.ones(acts_BSD.shape[:2], dtype=torch.bool, device=acts_BSD.device)
            counts_BS[:, 0] = False
            return counts_BS
        if self._counted is None or self._counted.shape != acts_BSD.shape[:2]:
            raise DataError(
                "The ids of these texts were not seen: the encoder was called without input_ids"
                f" [texts, tokens], and {tuple(acts_BSD.shape[:2])} came.",
                "Call it with ids, or leave out tokens.",
            )
        return self._counted.to(acts_BSD.device)

    def _reached(self, counts_BS: Tensor) -> Tensor:
        """Tokens that may be changed: those that count, and with ``padding`` all after the first of
        them."""
        return counts_BS | (counts_BS.cumsum(-1) > 0) if self._padding else counts_BS

    def _change(self, numbers: tuple[int, ...]) -> Interventions:
        """That of all these concepts at once."""
        if numbers not in self._changes:
            off = Deactivation.of(self._sae, [self._concepts[number] for number in numbers])
            self._changes[numbers] = Interventions([off.intervention(_HERE)])
        return self._changes[numbers]


def _elsewhere() -> DataError:
    return DataError(
        "The SAE writes elsewhere than it reads.", "Take one that reads and writes one place."
    )
