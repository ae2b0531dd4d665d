"""Every example of docs/api.md, run as it stands there, its answer compared with what is shown."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.database.session import transaction
from service.database.tables import Sae
from tests.support.trained_library import Trained
from tests.support.whole_api import Target, whole_api

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the guide's examples use curl"),
]

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
EXAMPLE = re.compile(r"```bash\n(.*?)```\n(?:```(json|text)\n(.*?)```)?", re.DOTALL)
END = "----- the end of an example -----"


@pytest.fixture(scope="module")
def target(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with transaction(trained.engine) as session:
        session.execute(update(Sae).where(Sae.name == "tiny").values(name="demo"))
    trained.add_heads()
    with whole_api(trained, tmp_path_factory.mktemp("valkey")) as target:
        yield target


def test_every_example_does_what_it_shows(target: Target, trained: Trained, tmp_path: Path) -> None:
    folder = trained.settings.artifacts / trained.sae.path
    (tmp_path / "my-sae").mkdir()
    for name in ("cfg.json", "sae_weights.safetensors"):
        shutil.copy(folder / name, tmp_path / "my-sae")
    examples = EXAMPLE.findall(GUIDE.read_text())
    assert len(examples) == GUIDE.read_text().count("```bash") > 20
    script = "".join(f"{code}\necho; echo '{END}'\n" for code, _, _ in examples)
    environment = {"MONOSEMY": f"{target.address}/api/v1", "KEY": target.key}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    answers = done.stdout.split(END)[:-1]
    assert len(answers) == len(examples)
    for (code, kind, shown), answer in zip(examples, answers, strict=True):
        if kind == "json":
            differences = list(unlike(json.loads(shown), json.loads(answer)))
            assert not differences, f"{code}\n{differences}\n{answer[:2000]}"
        elif kind == "text" and shown.strip() != "...":
            assert answer.strip().splitlines()[-1] == shown.strip(), f"{code}\n{answer}"


def unlike(shown: Any, came: Any, path: str = "$") -> Iterator[str]:
    """Where ``came`` is not as ``shown``: 0 and fractions are any number, "..." is any text, and
    lists and objects may go on."""
    if isinstance(shown, dict) and isinstance(came, dict):
        for name, value in shown.items():
            if name not in came:
                yield f"{path} has no {name}"
            else:
                yield from unlike(value, came[name], f"{path}.{name}")
    elif isinstance(shown, list) and isinstance(came, list):
        if len(came) < len(shown):
            yield f"{path} has {len(came)} entries, not {len(shown)}"
        for number, (value, answered) in enumerate(zip(shown, came, strict=False)):
            yield from unlike(value, answered, f"{path}[{number}]")
    elif isinstance(shown, bool) or shown is None:
        if shown is not came:
            yield f"{path} is {came!r}, not {shown!r}"
    elif isinstance(shown, float):
        if not isinstance(came, int | float):
            yield f"{path} is {came!r}, no number"
    elif shown == 0 and isinstance(came, int):
        return  # an index or a count, whatever it is
    elif isinstance(shown, str) and "..." in shown:
        if not isinstance(came, str):
            yield f"{path} is {came!r}, no text"
    elif shown != came:
        yield f"{path} is {came!r}, not {shown!r}"


def test_the_comparison_sees_differences() -> None:
    assert not list(unlike({"a": [{"b": 1}], "c": "..."}, {"a": [{"b": 1, "x": 2}], "c": "y"}))
    for shown, came in (
        ({"a": 1}, {"b": 1}),
        ({"a": [1]}, {"a": []}),
        ({"a": True}, {"a": 1}),
        ({"a": 5}, {"a": 6}),
        ({"a": "x"}, {"a": "y"}),
        ({"a": 0.5}, {"a": None}),
        ({"a": "..."}, {"a": None}),
        ({"a": {}}, {"a": []}),
    ):
        assert list(unlike(shown, came)), (shown, came)
