"""FAST: no dialogue sees another, every token is served once and well mixed.

The exact tests of the paper's procedure (Finetuning-aligned Sequential Training, section 3.3 of the
project's notes on methods): leakage, conservation, mixing.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy import stages
from monosemy.data.store import TokenStore
from monosemy.errors import Interrupted
from monosemy.index.sampling import Sampler
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.models.packing import SequenceSource, reading_order
from monosemy.progress import Reporter, StageProgress
from monosemy.sae_folder import SaeFolder
from monosemy.specs import (
    EvaluateRun,
    EvaluationSpec,
    IndexingSpec,
    IndexRun,
    ModelSpec,
    TextSpec,
    TopKSpec,
    TrainingSpec,
    TrainRun,
)
from monosemy.training.stream import ActivationStream
from monosemy.training.train import train_sae
from monosemy.workspace import Workspace
from tests.support.tiny_chats import END, START, chat_host, dialogues, write_chats

SITE = "blocks.2.hook_resid_post"
CONTEXT = 128


@pytest.fixture(scope="module")
def host(tiny_tokenizer: Any) -> HostModel:
    return chat_host(tiny_tokenizer)


@pytest.fixture(scope="module")
def stores(host: HostModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    """The same dialogues under every policy that takes chats."""
    folder = tmp_path_factory.mktemp("chats")
    file = write_chats(folder / "chats.jsonl", dialogues())
    return {
        packing: TokenStore.build(
            TextSpec(
                source=str(file), packing=packing, context_size=CONTEXT, heldout_fraction=0.25
            ),
            host,
            folder / packing,
        )
        for packing in ("packed", "chat", "chat_block_diagonal")
    }


def alone(host: HostModel, chat: list[dict[str, str]]) -> tuple[list[int], Tensor]:
    """Ids and activations of one dialogue, by the tokenizer's own rendering, in its own forward."""
    ids = host.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)[:CONTEXT]
    ids_BS = torch.tensor([ids])
    return ids, host.capture(ids_BS, torch.ones_like(ids_BS), [SITE])[SITE][0]


def worst_error(acts: Tensor, wanted: Tensor) -> float:
    return float((acts - wanted).norm(dim=1).div(wanted.norm(dim=1)).max())


@pytest.mark.parametrize("packing", ["chat", "chat_block_diagonal"])
@pytest.mark.parametrize("cached", [False, True])
def test_no_dialogue_sees_another(
    host: HostModel, stores: dict[str, TokenStore], packing: str, cached: bool, tmp_path: Path
) -> None:
    store = stores[packing]
    source = ActivationSource(host, store, SITE, tmp_path if cached else None, host_rows=3)
    acts_ND, position_N = source.rows(np.arange(store.n_rows))
    assert position_N.tolist() == list(range(store.n_tokens))
    for row, chat in enumerate(dialogues()):
        place = slice(int(store.row_start[row]), int(store.row_start[row + 1]))
        ids, wanted_SD = alone(host, chat)
        assert store.tokens[place].tolist() == ids
        assert worst_error(acts_ND[place], wanted_SD) < (1e-2 if cached else 1e-4)


def test_packed_rows_leak_into_all_but_the_first_of_a_sequence(
    host: HostModel, stores: dict[str, TokenStore]
) -> None:
    """What the tests above would see if attention crossed dialogues."""
    store = stores["packed"]
    acts_ND, _ = ActivationSource(host, store, SITE, None).rows(np.arange(store.n_rows))
    seen = Counter[str]()
    for number in range(store.n_sequences):
        for nth, row in enumerate(store.rows_of_sequences(np.array([number])).tolist()):
            place = slice(int(store.row_start[row]), int(store.row_start[row + 1]))
            ids = [host.bos_id, *store.tokens[place].tolist()]
            ids_BS = torch.tensor([ids])
            own_SD = host.capture(ids_BS, torch.ones_like(ids_BS), [SITE])[SITE][0, 1:]
            error = worst_error(acts_ND[place], own_SD)
            assert error < 1e-4 if nth == 0 else error > 0.05
            seen["first" if nth == 0 else "later"] += 1
    assert seen["first"] == store.n_sequences
    assert seen["later"] > store.n_sequences / 2


def test_every_special_token_of_every_dialogue_is_kept(
    host: HostModel, stores: dict[str, TokenStore]
) -> None:
    wanted = Counter(t for chat in dialogues() for t in alone(host, chat)[0])
    for packing in ("chat", "chat_block_diagonal"):
        store = stores[packing]
        assert Counter(store.tokens.tolist()) == wanted
        assert {START, END} <= set(store.special_ids.tolist())
        assert store.bos_id is None
        assert store.meta["truncated_chats"] == sum(
            len(host.tokenizer.apply_chat_template(chat, return_dict=False)) > CONTEXT
            for chat in dialogues()
        )
        assert store.meta["truncated_chats"] > 0
    rendered = Counter(
        t
        for chat in dialogues()
        for t in [*host.tokenizer.apply_chat_template(chat, return_dict=False), END]
    )
    assert Counter(stores["packed"].tokens.tolist()) == rendered


class Recording:
    """A source whose activations are the flat positions of the real one; notes their arrival."""

    width = 1

    def __init__(self, source: Any) -> None:
        self.source = source
        self.arrived: list[int] = []

    def rows(self, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        _, position_N = self.source.rows(rows)
        self.arrived += position_N.tolist()
        return torch.from_numpy(position_N + 1).float()[:, None], position_N

    def flush(self) -> None: ...


def stream_of(
    store: TokenStore, host: HostModel, buffer: int, cache: Path | None = None
) -> tuple[ActivationStream, Recording]:
    source = ActivationSource(host, store, SITE, cache)
    read, rows = reading_order(source, store, store.training_rows())
    recording = Recording(read)
    spec = TrainingSpec(
        batch_tokens=32, buffer_tokens=buffer, host_rows=2, max_norm_ratio=None, seed=3
    )
    return ActivationStream(recording, rows, spec), recording


@pytest.mark.parametrize("packing", ["packed", "chat", "chat_block_diagonal"])
def test_the_stream_serves_every_training_token_once_per_epoch(
    host: HostModel, stores: dict[str, TokenStore], packing: str
) -> None:
    store = stores[packing]
    stream, recording = stream_of(store, host, 512)
    wanted = Counter(
        position
        for row in store.training_rows().tolist()
        for position in range(int(store.row_start[row]), int(store.row_start[row + 1]))
    )
    served: Counter[int] = Counter()
    while len(recording.arrived) < 2 * wanted.total():
        served.update((stream.next_batch()[:, 0].long() - 1).tolist())
    assert Counter(recording.arrived[: wanted.total()]) == wanted
    waiting = torch.cat(
        [stream.buffer.values[stream.order[stream.served :]], stream._cursor.pending]
    )
    left = Counter((waiting[:, 0].long() - 1).tolist())
    assert served + left == Counter(recording.arrived)
    special = set(np.flatnonzero(np.isin(store.tokens, store.special_ids)).tolist())
    assert special & set(wanted) <= set(served)


def kendall_tau(values: list[int]) -> float:
    """Of a sequence against its own order: 1 sorted, -1 reversed, about 0 shuffled."""
    x = np.asarray(values)
    signs = np.sign(x[None, :] - x[:, None])
    return float(np.triu(signs, 1).sum() / (len(x) * (len(x) - 1) / 2))


@pytest.mark.parametrize("packing", ["packed", "chat", "chat_block_diagonal"])
def test_the_buffer_mixes_dialogues(
    host: HostModel, stores: dict[str, TokenStore], packing: str
) -> None:
    """Order of emission says nothing about order of arrival, within what the buffer held at once.
    A shuffle's tau has standard deviation sqrt(2 (2n + 5) / (9 n (n - 1))): 0.025 for n = 704."""
    stream, recording = stream_of(stores[packing], host, 1408)
    batches = [stream.next_batch()[:, 0].long() - 1 for _ in range(704 // 32)]
    arrival = {position: number for number, position in enumerate(recording.arrived[:1408])}
    assert len(arrival) == 1408, "the window is within one epoch"
    emitted = [arrival[int(position)] for position in torch.cat(batches)]
    assert kendall_tau(sorted(emitted)) == 1
    assert abs(kendall_tau(emitted)) < 0.1


def test_sequences_are_read_whole_and_once(host: HostModel, stores: dict[str, TokenStore]) -> None:
    for packing in ("packed", "chat_block_diagonal"):
        store = stores[packing]
        source = ActivationSource(host, store, SITE, None)
        read, sequences = reading_order(source, store, store.training_rows())
        assert isinstance(read, SequenceSource)
        rows = store.rows_of_sequences(sequences)
        assert sorted(rows.tolist()) == store.training_rows().tolist()
        acts_ND, position_N = read.rows(sequences[:2])
        again_ND, again_N = source.rows(store.rows_of_sequences(sequences[:2]))
        assert torch.equal(acts_ND, again_ND)
        assert position_N.tolist() == again_N.tolist()
    chat = stores["chat"]
    source = ActivationSource(host, chat, SITE, None)
    assert reading_order(source, chat, chat.training_rows())[0] is source


@pytest.mark.parametrize("packing", ["packed", "chat", "chat_block_diagonal"])
def test_the_whole_way_over_chats(
    host: HostModel, stores: dict[str, TokenStore], packing: str, tmp_path: Path
) -> None:
    """Train, evaluate, index: windows and documents of examples stay within one dialogue."""
    text = TextSpec(**stores[packing].meta["text"])
    run = TrainRun(
        text=text,
        site=SITE,
        sae=TopKSpec(d_sae=64, k=4),
        training=TrainingSpec(tokens=3000, batch_tokens=128, buffer_tokens=512, seed=1),
    )
    workspace = Workspace(tmp_path)
    folder = tmp_path / "sae"
    stages.train(run, folder, tmp_path / "checkpoint", workspace, lambda _spec: host)
    sae = SaeFolder(folder, workspace)
    small = EvaluationSpec(tokens=200, reconstruction_tokens=400)
    metrics = stages.evaluate(
        EvaluateRun(sae="x", evaluation=small), sae, workspace, lambda _spec: host
    )
    assert 0 < metrics["fvu"] < 1.5
    stored_text = sae.provenance["text"]
    assert (
        stored_text["packing"] == packing
        and stored_text["documents"] == stores[packing].n_documents
    )
    assert (
        ("skipped_chats" in stored_text) == (packing != "packed") == ("special_tokens" in metrics)
    )
    reader, store, _ = stages.index(
        IndexRun(sae="x", indexing=IndexingSpec(window=6)),
        sae,
        lambda _text: tmp_path / "index",
        workspace,
        lambda _spec: host,
    )
    feature = int(np.argmax(reader.counts))
    documents = np.repeat(store.row_document, np.diff(store.row_start))
    for example in [
        *reader.examples(feature),
        *Sampler(reader, store).examples(feature, 2, 6, 0),
        *Sampler(reader, store).negatives(feature, 0, 6, 0),
    ]:
        assert set(documents[example.start : example.end].tolist()) == {example.document}


class StopsAt(Reporter):
    """Asks to stop once so many tokens are done."""

    def __init__(self, tokens: int) -> None:
        super().__init__(lambda: Interrupted if self.asked else None)
        self.tokens, self.asked = tokens, False

    def update(self, progress: StageProgress) -> None:
        self.asked = progress.done >= self.tokens


@pytest.mark.parametrize("packing", ["packed", "chat_block_diagonal"])
def test_stopping_changes_no_bit(
    host: HostModel, stores: dict[str, TokenStore], packing: str, tmp_path: Path
) -> None:
    """Sequences are read again from where the checkpoint stood."""
    store = stores[packing]
    run = TrainRun(
        model=ModelSpec(dtype="float32", device="cpu"),
        site=SITE,
        sae=TopKSpec(d_sae=64, k=4),
        training=TrainingSpec(
            tokens=4000, batch_tokens=128, buffer_tokens=512, host_rows=2, seed=1
        ),
    )

    def trained(name: str, reporter: Reporter) -> dict[str, Tensor]:
        source = ActivationSource(host, store, SITE, None)
        trained_sae = train_sae(run, store, source, tmp_path / name, reporter)
        return trained_sae.sae.state_dict()

    whole = trained("whole", Reporter())
    for tokens in (640, 2688):
        with pytest.raises(Interrupted):
            trained("parts", StopsAt(tokens))
    parts = trained("parts", Reporter())
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
