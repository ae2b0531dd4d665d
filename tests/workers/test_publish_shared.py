"""What several SAEs, runs and workers share in the database, and publish at the same time."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, func, select
from transformers import LlamaForCausalLM

from monosemy.data.store import TokenStore
from monosemy.index.example_bytes import examples_from_bytes
from monosemy.index.reader import IndexReader
from monosemy.models.host import HostModel
from monosemy.progress import SILENT
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from service.database.session import transaction
from service.database.tables import Context, Document, Feature, Model, Sae
from tests.support.trained_library import Trained
from workers import publish

pytestmark = pytest.mark.integration


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What ``act`` gives in ``count`` threads that start together; raises what it raises."""
    start = threading.Barrier(count)
    results: dict[int, Any] = {}

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = act(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    faults = [result for result in results.values() if isinstance(result, Exception)]
    assert not faults and len(results) == count
    return [results[number] for number in range(count)]


def other_host(host: HostModel, seed: int) -> HostModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HostModel.wrap(LlamaForCausalLM(host.model.config), host.tokenizer, host.name)


def test_a_vocabulary_that_was_read_wrongly_is_mended(
    clean_engine: Engine, tiny_host: HostModel
) -> None:
    """By an older version, which knew fewer families of tokenizers."""
    with transaction(clean_engine) as session:
        made = publish.publish_model(session, tiny_host, ModelSpec(name="tiny"))
        session.get_one(Model, made).token_bytes = b"MTB1\0\0\0\0"
    with transaction(clean_engine) as session:
        assert publish.publish_model(session, tiny_host, ModelSpec(name="tiny")) == made
    with transaction(clean_engine) as session:
        assert session.get_one(Model, made).token_bytes == tiny_host.token_bytes().pack()


def test_models_of_one_name_are_told_apart_by_their_weights(
    clean_engine: Engine, tiny_host: HostModel
) -> None:
    hosts = [tiny_host, other_host(tiny_host, 1), other_host(tiny_host, 2)]
    ids = []
    for host in [*hosts, *hosts]:
        with transaction(clean_engine) as session:
            ids.append(publish.publish_model(session, host, ModelSpec(name="tiny")))
    assert ids[:3] == ids[3:] and len(set(ids)) == 3
    with transaction(clean_engine) as session:
        names = {model.id: model.name for model in session.scalars(select(Model))}
    assert names[ids[0]] == "tiny-llama"
    for id_, host in zip(ids[1:3], hosts[1:], strict=True):
        assert names[id_] == f"tiny-llama-{host.info()['fingerprint'][:8]}"


def test_one_model_published_by_many_at_once(clean_engine: Engine, tiny_host: HostModel) -> None:
    def slowly() -> Any:
        time.sleep(0.3)  # nobody has written it when the others look
        return tiny_host.token_bytes()

    host: Any = SimpleNamespace(name="tiny", info=tiny_host.info, token_bytes=slowly)

    def act(number: int) -> uuid.UUID:
        with transaction(clean_engine) as session:
            return publish.publish_model(session, host, ModelSpec(name="tiny"))

    assert len(set(at_once(6, act))) == 1


def add_sae(engine: Engine, model: uuid.UUID, wanted: str) -> tuple[uuid.UUID, str]:
    id_ = uuid.uuid4()
    with transaction(engine) as session:
        name = publish.free_sae_name(session, wanted, id_)
        publish.publish_sae(
            session,
            id=id_,
            name=name,
            model_id=model,
            run_id=None,
            site="blocks.2.hook_resid_post",
            architecture="topk",
            d_in=32,
            d_sae=64,
            path=f"saes/{id_}",
            config={},
            metrics={},
            provenance={},
        )
    return id_, name


def test_names_chosen_at_once_are_all_different(clean_engine: Engine, tiny_host: HostModel) -> None:
    with transaction(clean_engine) as session:
        model = publish.publish_model(session, tiny_host, ModelSpec(name="tiny"))
    names = {name for _, name in at_once(6, lambda _: add_sae(clean_engine, model, "same"))}
    assert names == {"same", *(f"same-{number}" for number in range(2, 7))}


def test_saes_over_one_text_share_its_contexts(trained: Trained) -> None:
    """Four indexes over one text, published at once and twice: every context is there once, and
    every example finds its own."""
    engine, first = trained.engine, trained.sae
    assert first.index is not None
    index = first.index
    workspace = Workspace(trained.settings.artifacts)
    reader = IndexReader(workspace.locate(index["path"]))
    store = TokenStore.open(workspace.locate(f"text/{index['text_id']}"))
    saes = [add_sae(engine, first.model_id, "copy")[0] for _ in range(4)]
    with transaction(engine) as session:
        # As if the text had never been published.
        for table in (Context, Document):
            for row in session.scalars(select(table)):
                session.delete(row)

    def act(number: int) -> None:
        for _ in range(2):
            with transaction(engine) as session, SILENT.stage("publish") as stage:
                publish.publish_index(session, saes[number], reader, store, index["path"], stage)

    at_once(4, act)
    with transaction(engine) as session:
        contexts = session.scalars(select(Context.row)).all()
        assert session.scalar(select(func.count()).select_from(Document)) == store.n_documents
        for sae in saes:
            examples = session.scalars(select(Feature.examples).where(Feature.sae_id == sae)).all()
            assert len(examples) == 64
            used = {example.row for packed in examples for example in examples_from_bytes(packed)}
            assert used == set(contexts) and len(contexts) == len(used)
            stored_index = session.get_one(Sae, sae).index
            assert stored_index is not None and stored_index["alive"] == index["alive"]
