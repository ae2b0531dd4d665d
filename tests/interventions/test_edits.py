"""What interventions do to activations: exact identities on a planted SAE and on tiny hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_fields
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.intervention import (
    DecoderRow,
    Direction,
    Feature,
    Function,
    Intervention,
    Reconstruction,
    Where,
    ablate,
    add,
    clamp,
    replace,
    steer,
)
from monosemy.saes import registry
from monosemy.specs import TranscoderSpec
from tests.support.planted_hosted_sae import SITE, long_host, planted_hosted_sae

TOKEN = 300
READS, WRITES = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"


@pytest.fixture(scope="module")
def hosted(tiny_tokenizer: Any) -> HostedSAE:
    hosted = planted_hosted_sae(long_host(tiny_tokenizer), TOKEN)
    hosted.sae.requires_grad_(False)
    return hosted


@pytest.fixture(scope="module")
def transcoder(hosted: HostedSAE) -> HostedSAE:
    spec = TranscoderSpec(d_sae=16, k=3, target_site=WRITES, skip=True)
    sae = registry.create(spec, hosted.host.d_model, hosted.host.d_model)
    sae.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in (sae.W_skip, sae.b_dec):
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator(5)))
    return HostedSAE.at(hosted.host, sae.requires_grad_(False), READS, WRITES)


@pytest.fixture
def acts_BSD(hosted: HostedSAE) -> Tensor:
    """Some tokens have latent 0 active, some do not."""
    acts_BSD = torch.randn(2, 5, hosted.host.d_model, generator=generator(0))
    acts_BSD[0, 1:4] += 3 * hosted.sae.W_dec[0]
    return acts_BSD


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everywhere(acts_BSD: Tensor) -> Tensor:
    return torch.ones(acts_BSD.shape[:2], dtype=torch.bool)


def changed(
    hosted: HostedSAE, acts_BSD: Tensor, *changes: Intervention, where_BS: Tensor | None = None
) -> Tensor:
    where_BS = everywhere(acts_BSD) if where_BS is None else where_BS
    ((site, edit),) = Interventions(changes, hosted).edits(where_BS).items()
    assert site == hosted.site
    return edit(acts_BSD)


def active(hosted: HostedSAE, acts_BSD: Tensor, latent: int) -> Tensor:
    codes = hosted.sae.encode(acts_BSD.flatten(0, 1))
    return (codes.values * (codes.indices == latent)).sum(1).unflatten(0, acts_BSD.shape[:2])


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Also of the sign of zeros."""
    return torch.equal(one, other) and torch.equal(one.signbit(), other.signbit())


def test_adding_moves_by_so_much_of_the_decoder_row(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    for what in (Feature(3), DecoderRow(3), Direction.of(hosted.sae.W_dec[3], SITE)):
        moved = changed(hosted, acts_BSD, add(what, 2.5)) - acts_BSD
        torch.testing.assert_close(moved, (2.5 * hosted.sae.W_dec[3]).expand_as(moved))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_changes_nothing_keeps_every_bit(
    hosted: HostedSAE, acts_BSD: Tensor, dtype: torch.dtype
) -> None:
    acts_BSD = acts_BSD.to(dtype)
    acts_BSD[1, 0] = -0.0
    acts_BSD[1, 1, 0] = float("nan")
    values_BS = active(hosted, acts_BSD.float(), 0)
    nothing: list[Intervention] = [
        add(Feature(3), 0.0),
        add(DecoderRow(3), 0.0),
        ablate(Feature(0), Where(active=Feature(0), above=1e9)),
        clamp(Feature(0), 1.0, Where(positions=())),
    ]
    acts = acts_BSD.nan_to_num()
    for change in nothing:
        assert same_bits(changed(hosted, acts, change), acts)
    # Clamped to what it is, and ablated where it is not there.
    assert (values_BS > 0).any()
    for row, column in ((values_BS > 0).nonzero()[0].tolist(), (1, 0)):
        value = float(values_BS[row, column])
        where_BS = torch.zeros(2, 5, dtype=torch.bool)
        where_BS[row, column] = True
        own = changed(hosted, acts, clamp(Feature(0), value), where_BS=where_BS)
        assert same_bits(own, acts)
    absent_BS = values_BS == 0
    assert absent_BS.any() and not absent_BS.all()
    assert same_bits(changed(hosted, acts, ablate(Feature(0)), where_BS=absent_BS), acts)


def test_nothing_moves_elsewhere(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    where_BS = torch.zeros(2, 5, dtype=torch.bool)
    where_BS[1, 2] = True
    for change in (
        add(Feature(3), 2.5),
        clamp(DecoderRow(3), 1.0),
        replace(Reconstruction()),
        replace(Function(torch.neg, SITE)),
    ):
        after = changed(hosted, acts_BSD, change, where_BS=where_BS)
        assert torch.equal(after[~where_BS], acts_BSD[~where_BS])
        assert not torch.equal(after[where_BS], acts_BSD[where_BS])


def test_clamping_a_direction_sets_the_part_along_it_and_leaves_the_rest(
    hosted: HostedSAE, acts_BSD: Tensor
) -> None:
    row = hosted.sae.W_dec[3]
    unit = row / row.norm()
    for change in (
        clamp(DecoderRow(3), 4.0),
        clamp(Direction.of(row, SITE), 4.0),
        steer(3, 4.0, "orthogonal"),
    ):
        after = changed(hosted, acts_BSD, change)
        torch.testing.assert_close(after @ unit, torch.full((2, 5), float(4 * row.norm())))
        across = [x - (x @ unit)[..., None] * unit for x in (acts_BSD, after)]
        torch.testing.assert_close(*across, atol=1e-5, rtol=1e-5)


def test_clamping_replaces_the_latents_own_part(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    value_BS = active(hosted, acts_BSD, 0)
    assert (value_BS > 0).any() and (value_BS == 0).any()
    moved = changed(hosted, acts_BSD, clamp(Feature(0), 1.5)) - acts_BSD
    expected = (1.5 - value_BS)[..., None] * hosted.sae.W_dec[0]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)


def test_ablating_is_clamping_to_0_and_adding_what_is_there_turned(
    hosted: HostedSAE, acts_BSD: Tensor
) -> None:
    def part(x_ND: Tensor) -> Tensor:
        codes = hosted.sae.encode(x_ND)
        value_N = (codes.values * (codes.indices == 0)).sum(1)
        return value_N[:, None] * hosted.sae.W_dec[0]

    ablated = changed(hosted, acts_BSD, ablate(Feature(0)))
    assert same_bits(ablated, changed(hosted, acts_BSD, clamp(Feature(0), 0.0)))
    for other in (
        ablate(Function(part, SITE)),
        add(Function(part, SITE), -1.0),
        add(Function(lambda x: -part(x), SITE)),
    ):
        torch.testing.assert_close(ablated, changed(hosted, acts_BSD, other))
    value_BS = active(hosted, acts_BSD, 0)
    for row, column in value_BS.nonzero().tolist():
        value = float(value_BS[row, column])
        only = acts_BSD[row : row + 1, column : column + 1]
        added = changed(hosted, only, add(Feature(0), -value))
        torch.testing.assert_close(changed(hosted, only, ablate(Feature(0))), added)


def test_the_reconstruction_put_in_place_is_the_splice_and_its_error_restores(
    hosted: HostedSAE, acts_BSD: Tensor
) -> None:
    sae = hosted.sae
    spliced = changed(hosted, acts_BSD, replace(Reconstruction()))
    by_hand = sae(acts_BSD.flatten(0, 1)).reshape(acts_BSD.shape)
    assert same_bits(spliced, by_hand)
    assert same_bits(spliced, changed(hosted, acts_BSD, replace(Function(sae, SITE))))
    assert (spliced - acts_BSD).abs().max() > 0.1
    error = Function(lambda x: x - sae(x), SITE)
    both = changed(hosted, acts_BSD, replace(Reconstruction()), add(error))
    torch.testing.assert_close(both, acts_BSD)
    # A feature of a reconstruction: its error dropped with the one, kept with the other.
    for change in (clamp(Feature(0), 4.0), ablate(Feature(0))):
        kept = changed(hosted, acts_BSD, change)
        dropped = changed(hosted, acts_BSD, replace(Reconstruction()), change)
        torch.testing.assert_close(kept - acts_BSD, dropped - spliced, atol=1e-5, rtol=1e-5)


def test_several_are_summed_from_what_was_there_in_any_order(
    hosted: HostedSAE, acts_BSD: Tensor
) -> None:
    changes = (
        add(Feature(1), 2.0),
        clamp(Feature(0), 3.0),
        clamp(DecoderRow(2), -1.0),
        add(Function(torch.sin, SITE), 0.5),
    )
    together = changed(hosted, acts_BSD, *changes)
    alone = sum(changed(hosted, acts_BSD, change) - acts_BSD for change in changes)
    torch.testing.assert_close(together - acts_BSD, alone, atol=1e-5, rtol=1e-5)
    for order in permutations((*changes[:2], changes[3], replace(Reconstruction()))):
        one = changed(hosted, acts_BSD, *order)
        other = changed(hosted, acts_BSD, *reversed(order))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_rows_do_not_know_each_other(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    changes = (clamp(Feature(0), 3.0), clamp(DecoderRow(2), -1.0), add(Feature(1), 1.0))
    for extra in ((), (replace(Reconstruction()),)):
        chosen = (changes[0], changes[2], *extra) if extra else changes
        together = changed(hosted, acts_BSD, *chosen)
        for row in range(2):
            alone = changed(hosted, acts_BSD[row : row + 1], *chosen)
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-6)


def test_positions_count_from_the_start_of_the_row(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    change = add(Feature(3), 2.0, Where(positions=(1, 4, 7)))
    after = changed(hosted, acts_BSD, change)
    moved = (after != acts_BSD).any(-1)
    assert moved.tolist() == [[False, True, False, False, True]] * 2
    later = Interventions([change], hosted).edits(everywhere(acts_BSD), first=5)[SITE](acts_BSD)
    moved = (later != acts_BSD).any(-1)
    assert moved.tolist() == [[False, False, True, False, False]] * 2


def test_only_where_a_feature_is_active(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    value_BS = active(hosted, acts_BSD, 0)
    for above in (0.0, float(value_BS.max()) * 0.999):
        where = Where(active=Feature(0), above=above)
        for change in (add(Feature(3), 2.0, where), clamp(DecoderRow(3), 9.0, where)):
            moved = (changed(hosted, acts_BSD, change) != acts_BSD).any(-1)
            assert torch.equal(moved, value_BS > above)
    when = Where(when=lambda acts: acts.norm(dim=-1) > acts_BSD.norm(dim=-1).median())
    moved = (changed(hosted, acts_BSD, add(Feature(3), 2.0, when)) != acts_BSD).any(-1)
    assert torch.equal(moved, acts_BSD.norm(dim=-1) > acts_BSD.norm(dim=-1).median())


def test_the_host_models_precision_is_kept(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    for change in (steer(1, 2.0), replace(Reconstruction()), replace(Function(torch.neg, SITE))):
        assert changed(hosted, acts_BSD.bfloat16(), change).dtype == torch.bfloat16


# ------------------------------------------------------------------ in a forward of a host model
IDS_BS = torch.randint(3, 300, (2, 7), generator=torch.Generator().manual_seed(3))


def logits(hosted: HostedSAE, *changes: Intervention) -> Tensor:
    mask_BS = torch.ones_like(IDS_BS)
    edits = Interventions(changes, hosted).edits(mask_BS.bool()) if changes else None
    return hosted.host.logits(IDS_BS, mask_BS, edits)


def spliced_by_hand(hosted: HostedSAE, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Logits with ``of(read, old)`` where the SAE writes, from a clean forward's activations."""
    mask_BS = torch.ones_like(IDS_BS)
    read = hosted.host.capture(IDS_BS, mask_BS, [hosted.site])[hosted.site]
    return hosted.host.logits(IDS_BS, mask_BS, {hosted.target: lambda acts: of(read, acts)})


@pytest.mark.parametrize("which", ["sae", "transcoder"])
def test_identities_hold_in_a_forward_at_the_site_of_writing(
    which: str, hosted: HostedSAE, transcoder: HostedSAE
) -> None:
    here = hosted if which == "sae" else transcoder
    sae, clean = here.sae, logits(here)
    read = here.host.capture(IDS_BS, torch.ones_like(IDS_BS), [here.site])[here.site]
    codes = sae.encode(read.flatten(0, 1))
    latent = int(codes.indices[8, 0])
    value = codes.of([latent])[:, 0].unflatten(0, IDS_BS.shape)
    row = sae.W_dec[latent]

    assert torch.equal(logits(here, add(Feature(latent), 0.0)), clean)
    for change, of in (
        (add(Feature(latent), 2.0), lambda read, acts: acts + 2 * row),
        (ablate(Feature(latent)), lambda read, acts: acts - value[..., None] * row),
        (clamp(Feature(latent), 3.0), lambda read, acts: acts + (3 - value)[..., None] * row),
        (
            replace(Reconstruction()),
            lambda read, acts: sae(read.flatten(0, 1)).reshape(acts.shape),
        ),
    ):
        changed = logits(here, change)
        torch.testing.assert_close(changed, spliced_by_hand(here, of), atol=1e-4, rtol=1e-4)
        assert (changed - clean).abs().max() > 1e-3
    as_direction = logits(here, add(Direction.of(row, here.target), 2.0))
    assert torch.equal(as_direction, logits(here, add(Feature(latent), 2.0)))
    as_function = logits(here, replace(Function(sae, here.target, here.site)))
    assert torch.equal(as_function, logits(here, replace(Reconstruction())))


def test_two_saes_at_two_sites_and_what_reads_a_changed_site(
    hosted: HostedSAE, transcoder: HostedSAE
) -> None:
    """The transcoder reads what the model goes on with after a change where it reads."""
    both = {"stream": hosted, "mlp": transcoder}
    shift = Direction.of(torch.linspace(-2, 2, hosted.host.d_model), READS)
    changes = [add(shift), replace(Reconstruction("mlp")), add(Feature(0, "stream"), 1.5)]
    mask_BS = torch.ones_like(IDS_BS)
    changed = hosted.host.logits(
        IDS_BS, mask_BS, Interventions(changes, both).edits(mask_BS.bool())
    )
    moved = torch.tensor(shift.vector)
    seen: list[Tensor] = []

    def read(acts: Tensor) -> Tensor:
        seen.append(acts + moved)
        return acts + moved

    wanted = hosted.host.logits(
        IDS_BS,
        mask_BS,
        {
            READS: read,
            WRITES: lambda acts: transcoder.sae(seen[0].flatten(0, 1)).reshape(acts.shape),
            SITE: lambda acts: acts + 1.5 * hosted.sae.W_dec[0],
        },
    )
    torch.testing.assert_close(changed, wanted, atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------- what is refused
def test_what_cannot_be_done(hosted: HostedSAE, acts_BSD: Tensor) -> None:
    for change, words in (
        (lambda: steer(99, 1.0), "none is number 99"),
        (lambda: add(Feature(1, "other")), "no SAE named 'other' here. Named are: sae"),
        (lambda: clamp(Function(torch.sin, SITE), 1.0), "'clamp' has no meaning for a Function"),
        (lambda: replace(Feature(1)), "'replace' has no meaning for a Feature"),
        (lambda: add(Reconstruction()), "'add' has no meaning for a Reconstruction"),
        (lambda: add(Feature(1), float("nan")), "finite number"),
        (lambda: ablate(Direction((0.0, 0.0), SITE)), "not all of them 0"),
        (lambda: add(Feature(1), 1.0, Where(active=Feature(99))), "none is number 99"),
    ):
        with pytest.raises(DataError, match=words):
            Interventions([change()], hosted)
    with pytest.raises(DataError, match="nothing to change"):
        Interventions([], hosted)
    with pytest.raises(DataError, match="32 wide, not 2"):
        changed(hosted, acts_BSD, add(Direction((1.0, 2.0), SITE)))
    late = HostedSAE.at(hosted.host, hosted.sae, SITE, READS)
    with pytest.raises(DataError, match=f"{READS} depends on {SITE}, which comes later"):
        logits(late, ablate(Feature(1)))


def test_contradictions_are_refused_unless_they_are_at_different_places(
    hosted: HostedSAE,
) -> None:
    early, late = Where(positions=(1, 2)), Where(positions=(3,))
    contradictions = (
        (clamp(Feature(1), 2.0), ablate(Feature(1))),
        (replace(Reconstruction()), replace(Function(torch.neg, SITE))),
        (replace(Reconstruction()), clamp(DecoderRow(1), 1.0)),
        (replace(Direction((1.0,) * 32, SITE)), clamp(Feature(1), 1.0)),
    )
    for one, other in contradictions:
        with pytest.raises(DataError, match="contradict each other"):
            Interventions([one, other], hosted)
        Interventions([with_fields(one, where=early), with_fields(other, where=late)], hosted)
    for fine in (
        (add(Feature(1)), add(Feature(1))),
        (clamp(Feature(1), 1.0), add(Feature(1))),
        (clamp(Feature(1), 1.0), clamp(Feature(2), 1.0)),
        (clamp(Feature(1), 1.0), replace(Reconstruction())),
    ):
        Interventions(fine, hosted)
