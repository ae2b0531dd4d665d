"""A host model with everything held that is not linear: patterns, norms' lengths, MLPs' outputs.

What is left is an affine function of the stream that enters block 0 and of what each MLP adds (the
*leaves*), whose value at the clean leaves is that of the host.  Attribution graphs are gradients of
it.  The door is three names: ``linearise(host, ids)`` reads a prompt, ``.leaves`` are the clean
values, ``.forward(sites, leaves)`` gives values that carry a gradient.

    line = linearise(host, ids)
    leaves = {name: value.clone().requires_grad_() for name, value in line.leaves.items()}
    target = line.forward([site], leaves)[site][0, 7] @ row
    gradients = torch.autograd.grad(target, list(leaves.values()))

Linearity is proved, once for each host model, before anything is returned: the value is the sum of
gradient times leaf and of what is left at leaves of 0 (closure), and any other leaves change it by
exactly the gradient (perturbation).  Closure alone would not see a ReLU that is not held.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from monosemy.attribution.attention_calls import AttentionCall, AttentionCalls
from monosemy.attribution.reading import check_prompt
from monosemy.attribution.rotations import distance
from monosemy.errors import ModelError
from monosemy.models import sites as kinds
from monosemy.models.hook_points import Edit, Editor, HookPoint, Recorder, StopForward
from monosemy.models.host import HostModel, OpenHost
from monosemy.models.norms import FrozenNorm, frozen_norm
from monosemy.models.sites import Site

STREAM = "blocks.0.hook_resid_pre"
"""Leaf: what enters block 0, embeddings of tokens and positions together."""
FINAL = "final_norm"
"""Beside the sites: the stream behind the last norm, which the unembedding multiplies."""

_PROOF_TOKENS = 12
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest error of closure and perturbation, as a share of the size of the terms."""

_PROVED: WeakSet[HostModel] = WeakSet()
_LOCK = threading.Lock()


class LinearSkip(NamedTuple):
    """A linear path from a site to a leaf, ``leaf + read @ matrix.T`` at some tokens: the part of
    an MLP's output that a skip transcoder makes."""

    reads: str
    writes: str
    matrix_OI: Tensor
    at_S: Tensor
    """Bool: the tokens where it counts."""


class HeldSite(NamedTuple):
    """A value that stands at a site whatever comes to it, at some tokens: what an SAE of attention
    makes."""

    site: str
    value_SW: Tensor
    at_S: Tensor
    """Bool: the tokens where it stands."""

    def edit(self, seen: dict[str, Tensor]) -> Edit:
        """Puts it in place; what came to it is ``seen``."""

        def put(value: Tensor) -> Tensor:
            seen[self.site] = value.clone()
            return torch.where(self.at_S[:, None], self.value_SW.to(value), value)

        return put


@dataclass(frozen=True)
class LinearisedPrompt:
    """A prompt of S tokens; thread-safe as its host is: forwards take turns."""

    host: HostModel
    ids_S: tuple[int, ...]
    leaves: dict[str, Tensor]
    """Clean values, ``[1, S, D]`` in the host's dtype: ``STREAM`` and every ``hook_mlp_out``."""
    _calls: dict[int, AttentionCall]
    _norms: dict[nn.Module, tuple[FrozenNorm, Tensor]]

    def forward(
        self,
        sites: Sequence[str],
        leaves: Mapping[str, Tensor] | None = None,
        skips: Sequence[LinearSkip] = (),
        held: Sequence[HeldSite] = (),
    ) -> dict[str, Tensor]:
        """Values ``[1, S, width]`` at sites or ``FINAL``, affine in the leaves and with a gradient
        to those that want one; leaves that are not given keep their clean values.  A leaf that
        skips write is what is left beside them; what is ``held`` is put in place of what comes to
        it, which is the value told there.

        Raises ``UnknownSite``, and ``ValueError`` for a leaf that does not exist.
        """
        given = self.leaves | dict(leaves or {})
        unknown = given.keys() - self.leaves.keys()
        if unknown:
            raise ValueError(f"no leaf is called {', '.join(sorted(unknown))}")
        shape = 1, len(self.ids_S)
        values: dict[str, Tensor] = {}
        with self.host.opened() as opened, ExitStack() as stack:
            standing = {each.site for each in held}
            points = {site: _point(opened, site) for site in sites if site not in standing}
            if len(points) < len(set(sites)):
                points[FINAL] = _point(opened, FINAL)  # the forward goes on past what is held
            edits = _edits(opened, given, skips)
            edits += [(opened.sites.point(each.site), each.edit(values)) for each in held]
            stack.enter_context(AttentionCalls(_attentions(opened), self._calls))
            stack.enter_context(_Held(self._norms))
            stack.enter_context(Editor(edits, shape))
            stack.enter_context(_Kept(points, values, shape))
            stack.enter_context(torch.enable_grad())
            ids_BS = torch.tensor([list(self.ids_S)], device=self.host.device)
            opened.core(input_ids=ids_BS, use_cache=False)
        return {site: values[site] for site in sites}


def linearise(host: HostModel, ids: Sequence[int]) -> LinearisedPrompt:
    """The linearised host on a prompt; proves the host's linearity the first time.

    Raises ``ModelError`` for a model that has something else that is not linear (which blocks or
    values, where that shows), ``DataError`` for a prompt of one token or one too long.
    """
    check_prompt(host, ids)
    host.check_ids(torch.tensor(list(ids)))
    prove_linear(host)
    return _read(host, tuple(ids))


def prove_linear(host: HostModel) -> None:
    """Proves once for each host model that it can be linearised, or raises ``ModelError``."""
    with _LOCK:
        if host not in _PROVED:
            _prove(host)
            _PROVED.add(host)


def _read(host: HostModel, ids: tuple[int, ...]) -> LinearisedPrompt:
    shape = 1, len(ids)
    with host.opened() as opened, torch.no_grad():
        leaves = _leaf_points(host, opened)
        norms = _norm_modules(opened, leaves.values())
        around = [HookPoint(each, side) for each in norms for side in ("input", "output")]
        recorder = Recorder([*leaves.values(), *around], shape, stop_when_full=False)
        watch = AttentionCalls(_attentions(opened))
        with recorder, watch:
            ids_BS = torch.tensor([list(ids)], device=host.device)
            opened.core(input_ids=ids_BS, use_cache=False)
    calls = {}
    for layer in watch.calls:
        call = watch.one(layer)
        if call is None:
            raise ModelError(
                f"Attention in blocks.{layer} of {host.name} cannot be held: it uses softmax "
                f"attention {len(watch.calls[layer])} times where it can be seen, not once.",
            )
        calls[layer] = call
    held = {}
    for module in norms:
        taken, given = (
            recorder.values.get(HookPoint(module, side)) for side in ("input", "output")
        )
        if taken is None or given is None:
            continue  # never run
        norm = frozen_norm(module, tuple(taken.shape[2:]), host.device)
        if norm is None:
            raise ModelError(f"A {type(module).__name__} of {host.name} is not linear when held.")
        held[module] = norm, norm.inverse(taken.float(), given.float())
    clean = {name: recorder.values[point] for name, point in leaves.items()}
    return LinearisedPrompt(host, ids, clean, calls, held)


def _leaf_points(host: HostModel, opened: OpenHost) -> dict[str, HookPoint]:
    points = {}
    for layer, block in enumerate(opened.sites.maps):
        missing = [
            kind
            for kind in (kinds.RESID_PRE, kinds.ATTN_OUT, kinds.MLP_OUT)
            if kind not in block.points
        ]
        if missing:
            raise ModelError(
                f"{host.name} cannot be linearised: blocks.{layer} has no site {missing[0]}.",
                "It needs blocks of softmax attention and an MLP that are added to the stream.",
            )
        if layer == 0:
            points[STREAM] = block.points[kinds.RESID_PRE]
        points[str(Site(layer, kinds.MLP_OUT))] = block.points[kinds.MLP_OUT]
    return points


def _norm_modules(opened: OpenHost, replaced: Iterable[HookPoint]) -> list[nn.Module]:
    """The norms of the blocks and the last one, but for those whose output is a leaf."""
    leaves = {point.module for point in replaced}
    modules = [
        each
        for block in opened.trunk.blocks
        for each in block.children()
        if "norm" in type(each).__name__.lower() and each not in leaves
    ]
    final = opened.trunk.final_norm
    return modules if final is None else [*modules, final]


def _attentions(opened: OpenHost) -> dict[nn.Module, int]:
    return {
        block.attention: layer
        for layer, block in enumerate(opened.sites.maps)
        if block.attention is not None
    }


def _point(opened: OpenHost, site: str) -> HookPoint:
    if site != FINAL:
        return opened.sites.point(site)
    last = opened.trunk.final_norm
    return HookPoint(opened.trunk.blocks[-1] if last is None else last, "output")


def _edits(
    opened: OpenHost, leaves: Mapping[str, Tensor], skips: Sequence[LinearSkip]
) -> list[tuple[HookPoint, Edit]]:
    """What puts the leaves in place, and remembers on the way what skips read."""
    read: dict[str, Tensor] = {}

    def remember(site: str) -> Edit:
        def keep(value: Tensor) -> Tensor:
            read[site] = value
            return value

        return keep

    def put(name: str, leaf: Tensor) -> Edit:
        mine = [skip for skip in skips if skip.writes == name]

        def given(value: Tensor) -> Tensor:
            made = leaf.to(value)
            for skip in mine:
                part = read[skip.reads] @ skip.matrix_OI.T.to(value)
                made = made + part * skip.at_S[:, None].to(value)
            return made

        return given

    sources = dict.fromkeys(skip.reads for skip in skips)
    return [
        *((opened.sites.point(name), put(name, leaf)) for name, leaf in leaves.items()),
        # Behind the leaves, as one of them may be what is read.
        *((opened.sites.point(site), remember(site)) for site in sources),
    ]


class _Held:
    """While it is open the norms divide by what they divided by on the clean prompt."""

    def __init__(self, norms: Mapping[nn.Module, tuple[FrozenNorm, Tensor]]) -> None:
        self._norms = norms
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for module, (norm, inverse) in self._norms.items():
            hook = self._hook(norm, inverse)
            self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    @staticmethod
    def _hook(norm: FrozenNorm, inverse: Tensor) -> Callable[..., Tensor]:
        def held(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], given: Any) -> Tensor:
            taken = args[0] if args else next(iter(kwargs.values()))
            value = norm.linear(taken.float(), inverse) + norm.shift
            return value.to(given.dtype)

        return held


class _Kept(Recorder):
    """Collects values with their gradients, and ends the forward at the last of them."""

    def __init__(
        self, points: Mapping[str, HookPoint], into: dict[str, Tensor], shape: tuple[int, int]
    ) -> None:
        super().__init__(points.values(), shape)
        self._names, self._into = points, into

    def _recorder(self, point: HookPoint) -> Callable[[Tensor], None]:
        def record(value: Tensor) -> None:
            # A copy, since some models go on to add in place.
            self.values[point] = value.clone()
            self._into.update(
                {name: self.values[at] for name, at in self._names.items() if at == point}
            )
            if len(self.values) == len(self.points):
                raise StopForward

        return record


def _prove(host: HostModel) -> None:
    """``ModelError`` unless the linearised host is the host, and affine."""
    length = min(_PROOF_TOKENS, host.abilities.positions or _PROOF_TOKENS)
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(host.d_vocab, (length,), generator=generator)
    line = _read(host, tuple(ids.tolist()))
    allowed = _TOLERANCE.get(host.dtype, 1e-4)
    last = str(Site(host.n_layers - 1, kinds.RESID_POST))
    clean = host.capture(ids[None], torch.ones(1, length), [last])[last].float()

    def noise(like: Tensor, size: float = 1.0) -> Tensor:
        return (torch.randn(like.shape, generator=generator) * size).to(like)

    sites = [*(str(Site(layer, kinds.ATTN_OUT)) for layer in range(host.n_layers)), FINAL]
    fault = _not_affine(host, line, sites, noise, allowed)
    if fault is not None:
        # The first that is off by itself; what comes behind it is off with it.
        faults = (_not_affine(host, line, [site], noise, allowed) for site in sites)
        raise next((each for each in faults if each is not None), fault)
    off = distance(line.forward([last])[last].float(), clean)
    if not off <= allowed:
        raise ModelError(
            f"{host.name} cannot be linearised: with everything held its stream is off by "
            f"{off:.2g} of its norm."
        )


def _not_affine(
    host: HostModel,
    line: LinearisedPrompt,
    sites: Sequence[str],
    noise: Callable[..., Tensor],
    allowed: float,
) -> ModelError | None:
    """What is wrong with the values at these sites, which count alike; None if they are affine."""
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in line.leaves.items()}
    values = line.forward(sites, leaves)
    directions = {
        site: noise(value).double() / value.detach().double().norm().clamp_min(1e-30)
        for site, value in values.items()
    }

    def target_of(values: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([(values[s].double() * directions[s]).sum() for s in sites]).sum()

    def at(changed: Mapping[str, Tensor]) -> float:
        with torch.no_grad():
            return float(target_of(line.forward(sites, changed)))

    target = target_of(values)
    slopes = torch.autograd.grad(
        target, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    clean = float(target.detach())

    def along(step: Mapping[str, Tensor]) -> tuple[float, float]:
        """(the change by the gradient, the size of its terms)"""
        terms = torch.cat(
            [(g.double() * step[n].double()).flatten() for n, g in zip(leaves, slopes, strict=True)]
        )
        return float(terms.sum()), max(float(terms.norm()), 1e-30)

    nothing = {name: torch.zeros_like(leaf) for name, leaf in line.leaves.items()}
    made, size = along(line.leaves)
    off = abs(clean - at(nothing) - made) / size
    how = "the parts of its value do not add up to it"
    for _ in range(3):
        if not off <= allowed:
            where = sites[0] if len(sites) == 1 else "its sites"
            return ModelError(
                f"{host.name} cannot be linearised: at {where} {how} (off by {off:.2g}).",
                "Something in it is not linear beside softmax attention, norms and MLPs.",
            )
        moved = {
            name: leaf + noise(leaf, 2 * float(leaf.float().std()) + 1e-3)
            for name, leaf in line.leaves.items()
        }
        # What the dtype made of the sum, not what was asked for.
        made, size = along({name: moved[name] - leaf for name, leaf in line.leaves.items()})
        off = abs(at(moved) - clean - made) / size
        how = "a change moves it by another amount than its gradient says"
    return None
