"""What is told of an SAE whose files are not there: only what the server can know."""

from __future__ import annotations

from pathlib import Path

from service.saes.files import missing_files, missing_words

INDEX = {"path": "indexes/a-1"}


def test_files_are_missing_only_beside_others(tmp_path: Path) -> None:
    """A server that does not share the workers' disk sees no SAE at all: it cannot know."""
    assert missing_files(tmp_path, "saes/a", INDEX) == []
    (tmp_path / "saes").mkdir()
    assert missing_files(tmp_path, "saes/a", INDEX) == []
    (tmp_path / "saes" / "b").mkdir()
    assert missing_files(tmp_path, "saes/a", INDEX) == ["weights"]
    (tmp_path / "indexes" / "b-1").mkdir(parents=True)
    assert missing_files(tmp_path, "saes/a", INDEX) == ["weights", "index"]
    (tmp_path / "saes" / "a").mkdir()
    assert missing_files(tmp_path, "saes/a", INDEX) == ["index"]
    assert missing_files(tmp_path, "saes/a", None) == []
    (tmp_path / "indexes" / "a-1").mkdir()
    assert missing_files(tmp_path, "saes/a", INDEX) == []


def test_stored_values_of_any_type_are_taken(tmp_path: Path) -> None:
    (tmp_path / "saes" / "b").mkdir(parents=True)
    for path in (None, 3, "", ["a"]):
        assert missing_files(tmp_path, "saes/b", {"path": path}) == []


def test_one_sentence() -> None:
    assert missing_words("demo", []) == ""
    assert "demo" in missing_words("demo", ["index"]) and "index is" in missing_words(
        "demo", ["index"]
    )
    assert "weights and index are" in missing_words("demo", ["weights", "index"])
