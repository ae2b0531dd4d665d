"""Cross-entropy of the spliced host model, and the whole evaluation, on a real tiny host."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from monosemy.errors import DataError
from monosemy.evals.evaluate import evaluate_sae
from monosemy.evals.splice import spliced_losses
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.intervention import Function, add, replace
from monosemy.models.activations import ActivationSource
from monosemy.progress import Reporter, StageProgress
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import EvaluationSpec, TopKSpec
from monosemy.specs.hooks import Hooks

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.models.host import HostModel

SITE = "blocks.2.hook_resid_post"
D = 32
MEAN = torch.zeros(D)


@pytest.fixture(scope="module")
def fitted_host(tiny_host: HostModel, tiny_store: TokenStore) -> HostModel:
    """The tiny host after a few steps on the text: ablating it does harm."""
    from monosemy.models.host import HostModel

    model = copy.deepcopy(tiny_host.model)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(40):
        batch = tiny_store.batch(np.arange(16) + 16 * step % (tiny_store.n_rows - 16))
        ids, real = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.real_BS)
        labels = ids.masked_fill(~real, -100)
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    return HostModel.wrap(model, tiny_host.tokenizer, "fitted")


def identity(x: torch.Tensor) -> torch.Tensor:
    return x


def perfect_sae() -> SAE:
    sae = create(TopKSpec(d_sae=2 * D, k=2 * D), D)
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
        sae.W_enc.copy_(sae.W_dec.T)
    return sae


def poor_sae() -> SAE:
    sae = create(TopKSpec(d_sae=64, k=6), D)
    sae.initialise(torch.Generator().manual_seed(0))
    return sae


def clean_cross_entropy(host: HostModel, store: TokenStore, rows: np.ndarray) -> tuple[float, int]:
    """Row by row without padding; predictions of text tokens from text tokens."""
    total, count = 0.0, 0
    for row in rows:
        tokens = store.tokens[store.row_start[row] : store.row_start[row + 1]].astype(np.int64)
        ids = torch.from_numpy(np.concatenate([[store.bos_id], tokens]))[None]
        with torch.no_grad():
            logits = host.model(input_ids=ids).logits[0].float()
        total += float(F.cross_entropy(logits[1:-1], ids[0, 2:], reduction="sum"))
        count += len(tokens) - 1
    return total / count, count


def splice(
    host: HostModel,
    store: TokenStore,
    site: str = SITE,
    max_norm: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "rows": store.heldout_rows()[:9],
        "reconstructions": {"it": identity},
        "mean_D": MEAN,
        "max_tokens": 10**6,
        "advance": lambda _n: None,
    }
    hosted = HostedSAE(host, poor_sae(), Hooks.at(site), max_norm)
    return spliced_losses(hosted, store, **{**settings, **options})


def test_the_clean_loss_is_that_of_the_model_alone(
    tiny_host: HostModel, tiny_store: TokenStore
) -> None:
    losses = splice(tiny_host, tiny_store)
    ce, count = clean_cross_entropy(tiny_host, tiny_store, tiny_store.heldout_rows()[:9])
    assert losses["ce_clean"] == pytest.approx(ce, rel=1e-5)
    assert losses["tokens"] == count


def test_reconstruction_plus_error_gives_the_clean_loss(
    fitted_host: HostModel, tiny_store: TokenStore
) -> None:
    sae = poor_sae()

    def with_error(x: torch.Tensor) -> torch.Tensor:
        reconstruction: torch.Tensor = sae(x)
        assert (reconstruction - x).norm() > 0.1 * x.norm()
        return reconstruction + (x - reconstruction)

    losses = splice(fitted_host, tiny_store, reconstructions={"whole": with_error, "poor": sae})
    assert losses["whole"]["ce_sae"] == pytest.approx(losses["ce_clean"], abs=1e-5)
    assert losses["whole"]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert losses["whole"]["ce_recovered_zero"] == pytest.approx(1.0, abs=1e-4)
    assert losses["whole"]["ce_recovered_mean"] == pytest.approx(1.0, abs=1e-4)
    assert losses["poor"]["kl"] > 0.01


def test_an_sae_that_says_nothing_is_the_ablation(
    fitted_host: HostModel, tiny_store: TokenStore
) -> None:
    mean = torch.linspace(-1, 1, D)
    silent = {"zero": torch.zeros_like, "mean": lambda x: mean.expand_as(x)}
    names = {f"as_{name}": decode for name, decode in silent.items()}
    losses = splice(fitted_host, tiny_store, mean_D=mean, reconstructions=names)
    for name in silent:
        assert losses[f"as_{name}"]["ce_sae"] == pytest.approx(losses[f"ce_{name}"], rel=1e-6)
        assert losses[f"as_{name}"][f"ce_recovered_{name}"] == pytest.approx(0.0, abs=1e-6)
    assert losses["ce_zero"] != pytest.approx(losses["ce_mean"], rel=1e-3)


def cross_entropy_with(
    host: HostModel, store: TokenStore, rows: np.ndarray, edit: Any, at: torch.Tensor
) -> float:
    """Of the predictions ``at [B, S-1]``, straight from ``host.logits``."""
    batch = store.batch(rows)
    ids, mask = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS)
    logits = host.logits(ids, mask, {SITE: edit}).double()[:, :-1][at]
    return float(F.cross_entropy(logits, ids[:, 1:][at]))


def test_ablations_and_the_whole_are_what_the_host_says(
    fitted_host: HostModel, tiny_store: TokenStore
) -> None:
    rows, mean = tiny_store.heldout_rows()[:5], torch.linspace(-1, 1, D)
    losses = splice(fitted_host, tiny_store, rows=rows, mean_D=mean)
    real = torch.from_numpy(tiny_store.batch(rows).real_BS)
    counted = real[:, 1:] & real[:, :-1]

    sae = poor_sae().requires_grad_(False)

    def on_text(value: torch.Tensor) -> Any:
        return lambda acts: torch.where(real[..., None], value.expand_as(acts), acts)

    edits = {
        "zero": on_text(torch.zeros(D)),
        "mean": on_text(mean),
        "clean": Interventions(
            [replace(Function(sae, SITE)), add(Function(lambda x: x - sae(x), SITE))]
        ).edits(torch.ones_like(real))[SITE],
    }
    for name, edit in edits.items():
        wanted = cross_entropy_with(fitted_host, tiny_store, rows, edit, counted)
        assert losses[f"ce_{name}"] == pytest.approx(wanted, rel=1e-5), name
    assert len({round(losses[f"ce_{name}"], 3) for name in edits}) == 3


def test_a_token_that_is_no_number_is_not_spliced(
    tiny_host: HostModel, tiny_store: TokenStore
) -> None:
    from monosemy.evals.splice import _spliced

    acts = torch.ones(1, 4, D)
    acts[0, 1, 0], acts[0, 2, 5] = float("inf"), float("nan")
    real = torch.tensor([[False, True, True, True]])
    hosted = HostedSAE.at(tiny_host, poor_sae(), SITE)
    edited = _spliced(hosted, torch.zeros_like).edits(real)[SITE](acts)
    assert torch.equal(edited[0, 3], torch.zeros(D)) and torch.equal(edited[0, 0], torch.ones(D))
    assert torch.equal(edited[0, 1], acts[0, 1]) and edited[0, 2].isnan().any()


def test_kl_is_the_sum_by_hand(tiny_host: HostModel, tiny_store: TokenStore) -> None:
    rows = tiny_store.heldout_rows()[:3]
    losses = splice(tiny_host, tiny_store, rows=rows, reconstructions={"poor": poor_sae()})
    batch = tiny_store.batch(rows)
    ids, mask = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS)
    real = torch.from_numpy(batch.real_BS)

    def poor_on_text(acts: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            flat = poor_sae()(acts.reshape(-1, D)).reshape(acts.shape)
        return torch.where(real[..., None], flat, acts)

    p = tiny_host.logits(ids, mask).double().log_softmax(-1)
    q = tiny_host.logits(ids, mask, {SITE: poor_on_text}).double().log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)[:, :-1][real[:, 1:] & real[:, :-1]]
    assert losses["poor"]["kl"] == pytest.approx(float(kl.mean()), rel=1e-4)


def test_bos_and_padding_never_reach_the_sae_s_place(
    tiny_host: HostModel, tiny_store: TokenStore
) -> None:
    lengths = np.diff(tiny_store.row_start)
    rows = np.array([int(lengths.argmax()), int(lengths.argmin())])
    spoilt: list[torch.Tensor] = []

    def spoils_all_but_text(x: torch.Tensor) -> torch.Tensor:
        text = torch.from_numpy(tiny_store.batch(rows).real_BS).flatten()
        spoilt.append(~text)
        return torch.where(text[:, None], x, torch.full_like(x, 1e4))

    losses = splice(tiny_host, tiny_store, rows=rows, reconstructions={"it": spoils_all_but_text})
    assert int(spoilt[0].sum()) > 2, "there was BOS and padding to spoil"
    assert losses["it"]["ce_sae"] == pytest.approx(losses["ce_clean"], rel=1e-6)


def test_outliers_keep_their_activation_and_are_told(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    rows = tiny_store.heldout_rows()[:9]
    acts, _ = ActivationSource(tiny_host, tiny_store, SITE, None).rows(rows)
    norms = acts.norm(dim=1)
    limit = float(norms.median())
    losses = splice(
        tiny_host, tiny_store, max_norm=limit, reconstructions={"zero_": torch.zeros_like}
    )
    assert losses["spliced_share"] == pytest.approx(
        float((norms <= limit).float().mean()), abs=0.01
    )
    assert splice(tiny_host, tiny_store)["spliced_share"] == 1.0
    nobody = splice(tiny_host, tiny_store, max_norm=1e-6, reconstructions={"z": torch.zeros_like})
    assert nobody["z"]["ce_sae"] == nobody["ce_clean"] == nobody["ce_zero"]
    assert nobody["z"]["ce_recovered_zero"] is None, "no harm done, nothing to recover"


@pytest.mark.parametrize("limit", [1, 37, 100])
def test_max_tokens_is_kept_to_the_token(
    tiny_host: HostModel, tiny_store: TokenStore, limit: int
) -> None:
    counted: list[int] = []
    losses = splice(tiny_host, tiny_store, max_tokens=limit, advance=counted.append)
    assert losses["tokens"] == limit == sum(counted)
    assert np.isfinite(losses["ce_clean"])


class Remembers(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.finished: list[StageProgress] = []

    def finish(self, progress: StageProgress) -> None:
        self.finished.append(progress)


class Recording(ActivationSource):
    """Remembers which rows were asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read_rows: list[int] = []

    def rows(self, rows: Any) -> Any:
        self.read_rows.extend(int(row) for row in rows)
        return super().rows(rows)


def test_the_whole_evaluation(
    fitted_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    source = ActivationSource(fitted_host, tiny_store, SITE, tmp_path)
    spec, reporter = EvaluationSpec(tokens=150, reconstruction_tokens=300), Remembers()
    hosted, poor = HostedSAE.at(fitted_host, perfect_sae(), SITE), poor_sae()
    metrics = evaluate_sae(hosted, poor, tiny_store, source, spec, reporter)
    assert (metrics["tokens"], metrics["splice_tokens"]) == (300, 150)
    # The cache holds bfloat16, so its variance is that of rounded numbers; the SAE is exact.
    assert metrics["fvu"] < 1e-6 and metrics["ce_recovered_mean"] == pytest.approx(1.0, abs=1e-3)
    worse = metrics["frozen_decoder_baseline"]
    assert (
        worse["fvu"] > 0.1 and worse["ce_sae"] > metrics["ce_sae"] and worse["kl"] > metrics["kl"]
    )
    assert worse["l0"] == 6.0
    assert [(p.name, p.unit, p.done, p.total) for p in reporter.finished] == [
        ("evaluate", "tokens", 450, 450)
    ]
    again = evaluate_sae(hosted, None, tiny_store, source, spec)
    assert "frozen_decoder_baseline" not in again and again["ce_sae"] == metrics["ce_sae"]


def test_a_small_text_is_evaluated_whole(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    source, reporter = Recording(tiny_host, tiny_store, SITE, tmp_path), Remembers()
    spec = EvaluationSpec(tokens=10**6, reconstruction_tokens=10**6)
    hosted = HostedSAE.at(tiny_host, poor_sae(), SITE)
    metrics = evaluate_sae(hosted, None, tiny_store, source, spec, reporter)
    rows = tiny_store.heldout_rows()
    held_out = int(np.diff(tiny_store.row_start)[rows].sum())
    assert (metrics["tokens"], metrics["splice_tokens"]) == (held_out, held_out - len(rows))
    assert reporter.finished[0].done == reporter.finished[0].total == 2 * held_out - len(rows)
    assert sorted(source.read_rows) == rows.tolist(), "every held-out row and no other"


def test_without_held_out_documents_it_is_refused(
    tiny_host: HostModel,
    tiny_store: TokenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path)
    monkeypatch.setattr(type(tiny_store), "heldout_rows", lambda _self: np.zeros(0, np.int64))
    with pytest.raises(DataError, match="No document is held out"):
        hosted = HostedSAE.at(tiny_host, poor_sae(), SITE)
        evaluate_sae(hosted, None, tiny_store, source, EvaluationSpec())
