"""Absorption by hand, on planted trees, and where there is nothing to absorb."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.benchmarking.absorption.fractions import (
    Bools,
    Projected,
    fraction_0_3_2,
    fraction_0_6_0,
    full_absorption,
)
from monosemy.benchmarking.absorption.main_latents import (
    _balanced,
    _balancing,
    _lasso,
    main_latents,
    sparse_codes,
)
from monosemy.benchmarking.absorption.measure import Judged, Latents, projected
from monosemy.benchmarking.absorption.truth_probe import LabelledWords, f1, fit_probes
from monosemy.circuits.supervised.coders import sae_coder
from monosemy.evals.synthetic.tree import INNER, LEAVES, N_FEATURES, Tree
from monosemy.saes import registry
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs import TopKSpec
from monosemy.specs.benchmarks import AbsorptionBenchmark

PARENTS = [*INNER, *LEAVES]


def by_hand() -> tuple[Projected, Bools]:
    """3 latents, 10 words.  Latent 0 stands for the direction; 1 has a row of length 2 along it; 2
    is at a right angle.  4 words: 0 is silent, 1 adds all.  Then one word of which both add half,
    one of which 0 adds .8 and 1 adds .2 of 1.2, and 4 of which 0 adds all."""
    rows_FD = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    values_NK = torch.tensor(
        [[0.0, 0.5, 2.0]] * 4 + [[0.5, 0.25, 0.0], [0.8, 0.1, 0.0]] + [[1.0, 0.0, 1.0]] * 4
    )
    whole_N = torch.tensor([1.0] * 5 + [1.2] + [1.0] * 4)
    codes = Codes(torch.arange(3).expand(10, 3), values_NK)
    x_ND = torch.stack([whole_N, torch.zeros(10)], 1)
    of = projected(codes, rows_FD, torch.tensor([1.0, 0.0], dtype=torch.float64), x_ND, [0])
    return of, np.asarray(~(of.main_NK & (values_NK.numpy() > 0)).any(1))


def test_ten_words_of_which_four_are_absorbed() -> None:
    of, silent_N = by_hand()
    full_N = full_absorption(of, silent_N, 0.025, 0.4)
    assert full_N.tolist() == [True] * 4 + [False] * 6 and full_N.mean() == 0.4
    newer_N, older_N = fraction_0_6_0(of, 3, 0.1, 0.4), fraction_0_3_2(of)
    assert newer_N.tolist() == pytest.approx([1.0] * 4 + [0.5, 0.0] + [0.0] * 4)
    assert older_N.tolist() == pytest.approx([1.0] * 4 + [0.5, 0.2] + [0.0] * 4)


def test_thresholds_are_what_they_say() -> None:
    of, silent_N = by_hand()
    assert not full_absorption(of, silent_N, 1.01, 0.4).any()
    assert not full_absorption(of, silent_N, 0.025, 1.01).any()
    assert fraction_0_6_0(of, 3, 1.01, 0.4).sum() == 0
    assert fraction_0_6_0(of, 3, 0.1, 0.1)[5] == pytest.approx(0.2)
    below = Projected(of.added_NK, of.cosine_NK, of.main_NK, -of.whole_N)
    assert not full_absorption(below, silent_N, 0.025, 0.4).any()


def tree_sae(tree: Tree, absorbs: bool) -> SAE:
    """Each feature is a latent; where one ``absorbs``, a child's writes its parent too, whose own
    is silent beside it.  Rows have other lengths than 1."""
    sae = registry.create(TopKSpec(d_sae=N_FEATURES, k=N_FEATURES), N_FEATURES)
    encoder, decoder = tree.features_FD.clone(), tree.features_FD.clone()
    for parent, children in INNER.items() if absorbs else ():
        for child in children:
            encoder[parent] -= 10 * tree.features_FD[child]
            decoder[child] += tree.features_FD[parent]
    with torch.no_grad():
        sae.W_enc.copy_(encoder.T / 3)
        sae.W_dec.copy_(3 * decoder)
        sae.b_enc.fill_(-0.01)
    return sae


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(4)


@pytest.fixture(scope="module")
def judged(tree: Tree) -> Judged:
    """Words are samples, and letters the 11 parents, of which each sample has one."""

    def words(n: int) -> LabelledWords:
        x_ND, magnitudes_NF = tree.sample(n)
        return LabelledWords(x_ND, (magnitudes_NF[:, PARENTS] > 0).long().argmax(1))

    return Judged.of(words(3000), words(800), words(1200), len(PARENTS), 0)


def measured(judged: Judged, sae: SAE, **options: float) -> tuple[dict[str, np.ndarray], list]:
    spec = AbsorptionBenchmark.model_validate(options)
    found = Latents(sae_coder(sae), judged).found(spec)
    return found.by_letter, found.main


def test_the_tree_is_absorbed_where_children_take_their_parents_share(
    tree: Tree, judged: Judged
) -> None:
    assert (judged.f1_L > 0.95).all()
    with_children = len(INNER)
    absorbing, main = measured(judged, tree_sae(tree, True), most_latents=1)
    assert main == [[parent] for parent in PARENTS]
    for metric in ("full_absorption", "absorption_fraction_0_6_0", "absorption_fraction_0_3_2"):
        assert absorbing[metric][:with_children] == pytest.approx(0.6, abs=0.1), metric
        assert absorbing[metric][with_children:] == pytest.approx(0, abs=0.02), metric
    assert absorbing["main_latent_recall"][:with_children] == pytest.approx(0.4, abs=0.1)


def test_nothing_is_absorbed_by_the_true_features(tree: Tree, judged: Judged) -> None:
    oracle, main = measured(judged, tree_sae(tree, False))
    assert main == [[parent] for parent in PARENTS]
    assert (oracle["full_absorption"] == 0).all()
    assert (oracle["absorption_fraction_0_6_0"] == 0).all()
    assert oracle["main_latent_recall"] == pytest.approx(1, abs=0.01)


def test_children_that_are_many_of_a_parents_words_count_as_main_latents(
    tree: Tree, judged: Judged
) -> None:
    split, main = measured(judged, tree_sae(tree, True))
    assert [sorted(each) for each in main[:3]] == [
        sorted((parent, *children)) for parent, children in INNER.items()
    ]
    assert (split["main_latents"][:3] == 4).all() and (split["full_absorption"] == 0).all()


def test_letters_of_other_words_have_no_main_latents(tree: Tree, judged: Judged) -> None:
    latents = Latents(sae_coder(tree_sae(tree, False)), judged)
    assert latents.of_shuffled(AbsorptionBenchmark()).sum() == 0
    assert (judged.shuffled_f1_L < 0.5).all()


def test_an_sae_that_knows_nothing_of_letters_has_no_absorption_to_speak_of(
    judged: Judged,
) -> None:
    sae = registry.create(TopKSpec(d_sae=8, k=1), N_FEATURES)
    sae.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.fill_(1.0)
    made, main = measured(judged, sae)
    assert main == [[]] * len(PARENTS)
    assert np.isnan(made["full_absorption"]).all()
    assert (made["main_latent_recall"] == 0).all() and (made["has_main_latent"] == 0).all()


def random_codes(seed: int, n: int = 400) -> tuple[Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    dense_NF = torch.rand(n, 12, generator=generator) * (
        torch.rand(n, 12, generator=generator) < 0.3
    )
    labels_NL = torch.stack([dense_NF[:, 0] > 0, dense_NF[:, 1] + dense_NF[:, 2] > 0.6], 1)
    return dense_NF, labels_NL.numpy()


def test_the_sparse_probe_is_at_its_optimum() -> None:
    """Where a weight is not 0 the slope is the penalty, elsewhere it is less."""
    dense_NF, labels_NL = random_codes(3)
    codes = Codes(torch.arange(12).expand(len(dense_NF), 12), dense_NF)
    x_NF = sparse_codes(codes, torch.ones(12))
    assert x_NF.toarray() == pytest.approx(dense_NF.numpy())
    weight_FL = torch.tensor(_lasso(x_NF, labels_NL, 0.01), requires_grad=True)
    share_NL = torch.tensor(_balancing(labels_NL)) / len(labels_NL)
    bias_L = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([bias_L], max_iter=100)

    def loss() -> Tensor:
        logits = dense_NF.double() @ weight_FL + bias_L
        labels = torch.tensor(labels_NL).double()
        return F.binary_cross_entropy_with_logits(logits, labels, share_NL, reduction="sum")

    def closure() -> Tensor:
        optimiser.zero_grad()
        whole = loss()
        whole.backward()
        return whole

    optimiser.step(closure)
    weight_FL.grad = None
    loss().backward()
    assert weight_FL.grad is not None
    slope, weight = weight_FL.grad, weight_FL.detach()
    used = weight != 0
    assert 0 < int(used.sum()) < weight.numel()
    assert slope[used].numpy() == pytest.approx((-0.01 * weight[used].sign()).numpy(), abs=1e-4)
    assert float(slope[~used].abs().max()) < 0.0101


def test_the_small_probe_is_at_its_optimum() -> None:
    dense_NF, labels_NL = random_codes(5)
    x_NK, labels_N = dense_NF[:, :3].double().numpy(), labels_NL[:, 1]
    weight_K, bias = _balanced(x_NK, labels_N)
    share_N = _balancing(labels_NL)[:, 1]
    off_N = share_N * (1 / (1 + np.exp(-(x_NK @ weight_K + bias))) - labels_N)
    assert x_NK.T @ off_N + weight_K == pytest.approx(0, abs=1e-6)
    assert off_N.sum() == pytest.approx(0, abs=1e-6)


def test_a_further_latent_must_raise_f1() -> None:
    dense_NF, labels_NL = random_codes(8, 3000)
    codes = Codes(torch.arange(12).expand(len(dense_NF), 12), dense_NF)
    x_NF = sparse_codes(codes, torch.ones(12))
    pair = (x_NF, labels_NL)
    assert main_latents(pair, pair, 0.01, 10, 0.03) == [[0], [1, 2]] or main_latents(
        pair, pair, 0.01, 10, 0.03
    ) == [[0], [2, 1]]
    assert [len(each) for each in main_latents(pair, pair, 0.01, 1, 0.03)] == [1, 1]
    assert main_latents(pair, pair, 0.01, 10, 0.99) == [[], []]
    assert main_latents(pair, pair, 100.0, 10, 0.03) == [[], []]


def test_thresholds_of_probes_are_those_of_the_best_f1() -> None:
    generator = torch.Generator().manual_seed(2)
    letter_N = torch.randint(3, (600,), generator=generator)
    letter_N = torch.where(torch.rand(600, generator=generator) < 0.7, 0, letter_N)
    x_ND = F.one_hot(letter_N, 3) + 0.5 * torch.randn(600, 3, generator=generator)
    fit, other = (
        LabelledWords(x_ND[:300], letter_N[:300]),
        LabelledWords(x_ND[300:], letter_N[300:]),
    )
    probes = fit_probes(fit, other, 3)
    best_L = probes.f1(other)
    logits_NL = x_ND[300:].double() @ probes.weight_LD.T + probes.bias_L
    is_NL = F.one_hot(letter_N[300:], 3).bool()
    for shift in torch.linspace(-3, 3, 41):
        assert (f1(logits_NL > shift, is_NL) <= best_L + 1e-12).all()
