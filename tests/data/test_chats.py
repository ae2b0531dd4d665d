"""Dialogues: read from every kind of file, rendered, refused or left out and counted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monosemy.data.chats import (
    NO_CONTENT,
    NO_MESSAGES,
    REFUSED,
    ChatRenderer,
    role_ids,
    special_ids,
)
from monosemy.data.sources import open_text
from monosemy.data.store import TokenStore, prepare_text, text_id_of
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.specs import TextSpec
from monosemy.workspace import Workspace, fingerprint

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no role ' + message['role']) }}{% endif %}"
    "{{ '<s>' + message['role'] + '\n' + message['content'] + '</s>' + '\n' }}"
    "{% endfor %}"
)


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


GOOD = [turn("user", "the harbour?"), turn("assistant", "grey whales")]
RENDERED = "<s>user\nthe harbour?</s>\n<s>assistant\ngrey whales</s>\n"


@pytest.fixture(scope="module")
def host(tiny_host: HostModel) -> HostModel:
    tokenizer = copy.deepcopy(tiny_host.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return HostModel.wrap(tiny_host.model, tokenizer, "tiny-chat")


def write(file: Path, records: list[Any]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def build(records: list[Any], host: HostModel, tmp_path: Path, **options: Any) -> TokenStore:
    file = write(tmp_path / "chats.jsonl", records)
    spec = TextSpec(source=str(file), **{"packing": "chat", **options})
    return TokenStore.build(spec, host, tmp_path / "store")


def text_of(store: TokenStore, row: int) -> str:
    return store.token_bytes().decode(store.tokens[store.row_start[row] : store.row_start[row + 1]])


def test_a_dialogue_is_stored_as_the_template_renders_it(host: HostModel, tmp_path: Path) -> None:
    store = build([{"messages": GOOD, "title": "whales"}], host, tmp_path)
    assert text_of(store, 0) == RENDERED
    assert store.tokens.tolist() == host.tokenizer.apply_chat_template(GOOD, return_dict=False)
    assert store.document_names == ["whales"]
    assert (store.meta["format"], store.bos_id) == (1, None)
    assert store.special_ids.tolist() == [0, 1, 2]
    batch = store.batch([0])
    assert batch.real_BS.all(), "special tokens are text like any other"


def test_what_cannot_be_used_is_left_out_and_counted(host: HostModel, tmp_path: Path) -> None:
    chats = [
        GOOD,
        [],
        None,
        [turn("user", "a"), turn("assistant", None)],
        [turn("user", " "), turn("assistant", "")],
        [turn("wizard", "abracadabra")],
        [turn("system", ""), *GOOD],
        GOOD,
    ]
    store = build([{"messages": chat} for chat in chats], host, tmp_path)
    assert store.meta["skipped_chats"] == {NO_MESSAGES: 2, NO_CONTENT: 2, REFUSED: 1}
    assert store.meta["duplicates"] == 1
    assert store.n_documents == 2
    assert text_of(store, 1) == "<s>system\n</s>\n" + RENDERED
    assert store.document_names == ["chats.jsonl:1", "chats.jsonl:7"]


def test_if_nothing_is_left_it_says_why(host: HostModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"refused_by_template: 2.*template said: no role wizard"):
        build([{"messages": [turn("wizard", f"a{i}")]} for i in range(2)], host, tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a text", r"chats.jsonl, line 1: 'messages' holds str, not a list.*packing=document"),
        ({"role": "user"}, r"holds dict, not a list of messages"),
        (["hello"], r"line 1: message 1 of 'messages' has no role and content"),
        ([turn("user", "a"), {"role": "user"}], r"message 2 of 'messages' has no role"),
    ],
)
def test_a_broken_structure_is_an_error_with_its_place(
    host: HostModel, tmp_path: Path, value: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build([{"messages": value}], host, tmp_path)


def test_long_dialogues_are_cut_and_counted(host: HostModel, tmp_path: Path) -> None:
    long = [turn("user", "the harbour " * 40)]
    store = build([{"messages": GOOD}, {"messages": long}], host, tmp_path, context_size=32)
    whole = [host.tokenizer.apply_chat_template(c, return_dict=False) for c in (GOOD, long)]
    assert np.diff(store.row_start).tolist() == [min(len(ids), 32) for ids in whole]
    assert store.meta["truncated_chats"] == sum(len(ids) > 32 for ids in whole)
    assert store.meta["truncated_tokens"] == sum(max(len(ids) - 32, 0) for ids in whole)
    assert store.tokens[store.row_start[1] :].tolist() == whole[1][:32]


def test_the_column_is_messages_or_what_the_spec_says(host: HostModel, tmp_path: Path) -> None:
    records = [{"text": "plain", "messages": GOOD, "turns": [turn("user", "x")]}]
    assert text_of(build(records, host, tmp_path / "a"), 0) == RENDERED
    store = build(records, host, tmp_path / "b", column="turns")
    assert text_of(store, 0) == "<s>user\nx</s>\n"
    plain = build(records, host, tmp_path / "c", packing="packed")
    assert text_of(plain, 0) == "plain</s>"
    rendered = build([{"messages": GOOD}], host, tmp_path / "d", packing="packed")
    assert text_of(rendered, 0) == RENDERED + "</s>"
    with pytest.raises(DataError, match=r"no column 'body'; its columns: text, messages, turns"):
        build(records, host, tmp_path / "e", column="body")
    with pytest.raises(DataError, match=r"holds a list, not text.*text.packing=chat"):
        build(records, host, tmp_path / "f", column="messages", packing="document")


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / name).mkdir(exist_ok=True)


def test_parquet_and_datasets_hold_chats_too(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    file = tmp_path / "chats.parquet"
    parquet.write_table(arrow.table({"messages": [GOOD, GOOD[:1]], "id": ["x", "y"]}), file)
    documents = list(open_text(TextSpec(source=str(file), packing="chat_block_diagonal")))
    assert [document.name for document in documents] == ["x", "y"]
    assert documents[0].messages == GOOD

    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list([{"messages": GOOD}])
    original = datasets.load_dataset
    datasets.load_dataset = lambda *_args, **_options: made
    try:
        remote = list(open_text(TextSpec(source="mine", packing="chat")))
    finally:
        datasets.load_dataset = original
    assert remote[0].messages == GOOD


def test_plain_text_is_no_chat(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    for source in (str(tmp_path / "a.txt"), "wikipedia-sample"):
        with pytest.raises(DataError, match="no chats"):
            list(open_text(TextSpec(source=source, packing="chat")))


def test_content_in_text_parts_is_joined(host: HostModel) -> None:
    renderer = ChatRenderer(host.tokenizer, "x")
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "harbour?"}]
    image = [turn("user", [{"type": "image", "url": "u"}])]
    assert renderer.render([[turn("user", parts), GOOD[1]], image]) == [RENDERED, None]
    assert renderer.skipped == {NO_CONTENT: 1}


def test_special_and_role_ids(host: HostModel) -> None:
    assert special_ids(host.tokenizer) == [0, 1, 2]
    for role, number in role_ids(host.tokenizer).items():
        assert host.tokenizer.decode([number]) == role


def test_names_of_stores_made_before_there_were_policies_stay_valid() -> None:
    spec = TextSpec(source="some/dataset")
    fields = {
        "source": "some/dataset",
        "column": "text",
        "subset": None,
        "split": "train",
        "context_size": 128,
        "max_tokens": None,
        "prepend_bos": True,
        "heldout_fraction": 0.1,
    }
    assert text_id_of(spec, "a") == fingerprint({"format": 1, "text": fields, "host": "a"})
    policies = ("packed", "chat", "chat_block_diagonal", "document_block_diagonal")
    names = {text_id_of(spec.model_copy(update={"packing": each}), "a") for each in policies}
    assert len(names | {text_id_of(spec, "a")}) == 5


def test_another_template_makes_another_store(host: HostModel, tmp_path: Path) -> None:
    file = write(tmp_path / "chats.jsonl", [{"messages": GOOD}])
    spec = TextSpec(source=str(file), packing="chat")
    workspace = Workspace(tmp_path / "artifacts")
    first = prepare_text(spec, host, workspace)
    tokenizer = copy.deepcopy(host.tokenizer)
    tokenizer.chat_template = TEMPLATE.replace("</s>", "</s></s>")
    other = prepare_text(spec, HostModel.wrap(host.model, tokenizer, "other"), workspace)
    assert other.text_id != first.text_id
    assert text_of(other, 0) == RENDERED.replace("</s>", "</s></s>")


def test_a_store_of_the_default_policy_without_the_new_fields_opens(
    host: HostModel, tmp_path: Path
) -> None:
    store = build([{"text": "the harbour"}], host, tmp_path, packing="document")
    meta = json.loads((store.folder / "store.json").read_text())
    new = ("special_ids", "role_ids", "n_sequences", "separator_id", "skipped_chats")
    for name in (*new, "truncated_chats", "truncated_tokens"):
        del meta[name]
    del meta["text"]["packing"]
    (store.folder / "store.json").write_text(json.dumps(meta))
    old = TokenStore.open(store.folder)
    assert (old.packing, old.n_sequences, old.special_ids.tolist()) == ("document", 1, [])
    assert old.sequences_of(np.array([0, 0])).tolist() == [0]
    assert not old.crosses_documents
