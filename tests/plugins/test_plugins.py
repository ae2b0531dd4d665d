"""Architectures, scorers and explainers from outside the tree."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae
from monosemy.sae_folder import SaeFolder
from monosemy.sae_stamp import sae_stamp
from monosemy.specs import TextSpec
from monosemy.workspace import Workspace
from tests.support.campaign import wider
from tests.support.trained_library import SITE

pytestmark = pytest.mark.slow

Python = Callable[..., subprocess.CompletedProcess[str]]

SERVED = """
import sys
for name in ("torch", "transformers", "safetensors", "sae_lens", "transformer_lens"):
    sys.modules[name] = None
import json
from monosemy.specs import load_spec, parse_spec, queue_of
from service.app import create_app
from service.settings import Settings
schemas = create_app(Settings()).openapi()["components"]["schemas"]
run = parse_spec(load_spec("run.yaml"))
print(json.dumps({
    "groups": schemas["GroupMaxSpec"]["properties"]["groups"]["maximum"],
    "scorers": [each["$ref"] for each in schemas["ScoreRun"]["properties"]["scoring"]["oneOf"]],
    "words": run.explanation.words,
    "kept": parse_spec(run.model_dump(mode="json")) == run,
    "torch": sys.modules["torch"] is None,
}))
"""


def test_a_plugin_is_served_where_torch_does_not_exist(python: Python) -> None:
    done = python(SERVED)
    assert done.returncode == 0, done.stderr[-2000:]
    printed = json.loads(done.stdout.splitlines()[-1])
    scorers = printed.pop("scorers")
    assert printed == {"groups": 4096, "words": 3, "kept": True, "torch": True}
    assert scorers[0].endswith("/DetectionScoring") and scorers[-1].endswith("/WordsScoring")


PIPELINE = """
import json, sys
import monosemy
from monosemy.progress import SILENT
spec = json.loads({spec!r})
made = monosemy.pipeline(spec, "home", reporter=SILENT)
feature = min(made.scores)
words, embedded = made.scores[feature]
print(json.dumps({{
    "sae": type(made.sae).__name__,
    "folder": str(made.folder),
    "fvu": made.metrics["fvu"],
    "explained": len(made.explanations),
    "explanation": made.explanations[feature].text,
    "plugins": made.explanations[feature].provenance["plugins"],
    "score": [words.scorer, words.n, words.details["plugins"], embedded.scorer],
    "value": words.value,
}}))
"""


def test_a_pipeline_with_everything_from_outside(
    python: Python, host_folder: Path, tiny_text: TextSpec, tmp_path: Path, example: Path
) -> None:
    features = {"count": 3, "min_postings": 20, "max_density": 1.0}
    spec = {
        "model": {"name": str(host_folder), "dtype": "float32", "device": "cpu"},
        "text": tiny_text.model_dump(mode="json"),
        "site": SITE,
        "sae": {"architecture": "group_max", "d_sae": 64, "groups": 4},
        "training": {"tokens": 10_000, "batch_tokens": 250, "buffer_tokens": 2000},
        "evaluation": None,
        "indexing": {"top_examples": 4, "quantile_examples": 2, "window": 8},
        "explanation": {"explainer": "top_words", "words": 2, "features": features},
        "scoring": [
            {"scorer": "words", "positives": 5, "negatives": 5},
            {"scorer": "embedding", "positives": 5, "negatives": 5},
        ],
    }
    done = python(PIPELINE.format(spec=json.dumps(spec)))
    assert done.returncode == 0, done.stderr[-2000:]
    printed = json.loads(done.stdout.splitlines()[-1])
    plugin = [{"module": "field_notes", "version": "1"}]
    assert printed["sae"] == "GroupMaxSAE" and 0 < printed["fvu"] < 1
    assert printed["explained"] == 3 and printed["explanation"].startswith("Texts with ")
    assert printed["plugins"] == plugin
    assert printed["score"] == ["words", 10, plugin, "embedding"]
    assert 0 <= printed["value"] <= 1

    # The folder says where its architecture is from, and is refused without it, and by name.
    folder = Path(printed["folder"])
    noted = json.loads((folder / "provenance.json").read_text())
    assert noted["plugin"] == plugin[0]
    assert "architecture's plugin" in sae_stamp(folder).parts
    for read in (load_sae, lambda path: SaeFolder(path, Workspace(path.parents[1])).spec):
        with pytest.raises(DataError, match=r"'group_max' is from the plugin field_notes \(1\)"):
            read(folder)

    # Another version of the plugin computes something else, unless it says that it does not.
    newer = tmp_path / "newer"
    newer.mkdir()
    source = (example / "field_notes.py").read_text()
    (newer / "field_notes_sae.py").write_text((example / "field_notes_sae.py").read_text())
    source = source.replace('version = "1"', 'version = "2"')
    (newer / "field_notes.py").write_text(source)
    load = f"import monosemy; print(type(monosemy.load_sae({str(folder)!r})).__name__)"
    refused = python(load, path=newer)
    assert refused.returncode != 0
    assert "from version 1 of the plugin field_notes, and version 2 is here" in refused.stderr
    (newer / "field_notes.py").write_text(
        source.replace('version = "2"', 'version = "2"\n    reads_versions = ("1",)', 1)
    )
    assert python(load, path=newer).stdout.strip() == "GroupMaxSAE"


KEYS = """
from types import SimpleNamespace
from monosemy.interp.labelling import explanation_key, score_key
from monosemy.specs import EnsembleExplanation, ExplanationSpec, SAESpec, ScoringSpec, TrainRun
from monosemy.training.terms import training_terms
from monosemy.workspace import fingerprint
thing = SimpleNamespace()
print(score_key(ScoringSpec(scorer="words"), thing, "t", "j"))
print(explanation_key(ExplanationSpec(explainer="top_words"), thing, "t", "j"))
print(explanation_key(EnsembleExplanation(candidates=("default", "top_words")), thing, "t", "j"))
print(fingerprint(training_terms(TrainRun(sae=SAESpec(architecture="group_max")))))
print(score_key(ScoringSpec(scorer="fuzzing"), thing, "t", "j"))
"""


def test_the_version_is_part_of_every_key(python: Python, example: Path, tmp_path: Path) -> None:
    source = (example / "field_notes.py").read_text()
    (tmp_path / "field_notes.py").write_text(source.replace('version = "1"', 'version = "2"'))
    first, second = (python(KEYS, path=path).stdout.split() for path in (example, tmp_path))
    assert len(first) == len(second) == 5
    assert all(a != b for a, b in zip(first[:4], second[:4], strict=True))
    assert first[4] == second[4], "what is monosemy's own has the key that it had"


NOTEBOOK = """
import monosemy
from typing import Literal
from monosemy.interp.registry import create_scorer
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.interp.tools import NONE
from monosemy.specs import ScoringSpec
class Own(DetectionScorer):
    @classmethod
    def create(cls, spec, tools):
        return "made"
for _ in range(2):  # a cell that is run again
    @monosemy.register
    class OwnScoring(ScoringSpec):
        implementation = "__main__:Own"
        version = "1"
        scorer: Literal["own"] = "own"
print(create_scorer(ScoringSpec(scorer="own"), NONE))
OwnScoring.implementation = "__main__:Missing"
create_scorer(ScoringSpec(scorer="own"), NONE)
"""


def test_a_notebook_registers_its_own(python: Python) -> None:
    done = python(NOTEBOOK, plugins="")
    assert done.stdout.strip() == "made"
    line = done.stderr.strip().splitlines()[-1]
    assert "The scorer 'own' cannot be used: __main__:Missing is not to be had" in line


FAULTS = {
    "": "ModuleNotFoundError: No module named 'broken'",
    "x = 1": "it registers nothing",
    "1 / 0": "ZeroDivisionError: division by zero",
    "from monosemy.specs import register\n@register\nclass A: pass": "it is no subclass of",
    "{head}scorer: Literal['new'] = 'new'": "needs an implementation",
    "{head}scorer: Literal['new'] = 'new'\n    implementation = 'a:B'": "needs a version",
    "{head}scorer: Literal['new'] = 'new'\n    version = '1'\n    implementation = 'a:B'\n"
    "    place: str = ''": "Mine.place: mark what this str names",
    "{head}scorer: Literal['fuzzing'] = 'fuzzing'\n    version = '1'\n"
    "    implementation = 'a:B'": "there is another scorer of the name 'fuzzing'",
}
HEAD = """
from typing import Literal
from monosemy.specs import ScoringSpec, register
@register
class Mine(ScoringSpec):
    """


@pytest.mark.parametrize("source", FAULTS)
def test_a_broken_plugin_is_one_line(source: str, python: Python, tmp_path: Path) -> None:
    if source:
        (tmp_path / "broken.py").write_text(source.replace("{head}", HEAD))
    code = "import monosemy.specs.plugins as p\np.load_plugins()"
    done = python(code, plugins="broken", path=tmp_path)
    assert done.returncode != 0
    line = done.stderr.strip().splitlines()[-1]
    assert "The plugin 'broken' (MONOSEMY_PLUGINS) cannot be loaded: " in line
    assert FAULTS[source] in line


@pytest.mark.parametrize("program", ["service.edge.server", "workers.interp", "workers.inference"])
def test_a_program_ends_at_its_start_and_says_why(
    program: str, python: Python, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    code = f"import runpy; runpy.run_module({program!r}, run_name='__main__')"
    done = python(code, plugins="broken", path=tmp_path)
    assert done.returncode == (1 if program == "service.edge.server" else 2)
    assert done.stderr.strip().splitlines()[-1].endswith("ZeroDivisionError: division by zero")
    assert "Traceback" not in done.stderr or program == "service.edge.server"


@pytest.mark.parametrize(
    "words",
    [("up", "--port", "0"), ("run", "submit"), *wider((("demo", "--exit"),), (("run", "kinds"),))],
)
def test_a_command_starts_nothing_with_a_broken_plugin(
    words: tuple[str, ...], python: Python, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    spec = () if words[-1] != "submit" else ("--set", "sae.architecture=x", "--kind", "train")
    code = (
        f"import os, sys; os.environ['MONOSEMY_HOME'] = {str(tmp_path / 'home')!r};"
        f"sys.argv[1:] = {[*words, *spec]}; from service.cli.main import main; main()"
    )
    done = python(code, plugins="broken", path=tmp_path)
    assert done.returncode == 2 and not done.stdout
    [line] = done.stderr.strip().splitlines()
    assert line.endswith("ZeroDivisionError: division by zero")
    assert not (tmp_path / "home").exists()


def test_the_library_says_so_too(python: Python, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    code = "import sys; from monosemy.__main__ import main; sys.exit(main(['--kind', 'nothing']))"
    done = python(code, plugins="broken", path=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1


def test_a_plugin_that_brings_torch_is_warned_of(
    python: Python, example: Path, tmp_path: Path
) -> None:
    code = "import monosemy.specs.plugins as p\np.load_plugins()"
    assert "imports torch" not in python(code).stderr
    for file in example.glob("*.py"):
        (tmp_path / file.name).write_text(file.read_text())
    with (tmp_path / "field_notes.py").open("a") as file:
        file.write("\nimport torch\n")
    done = python(code, path=tmp_path)
    assert done.returncode == 0
    assert "The plugin 'field_notes' (MONOSEMY_PLUGINS) imports torch." in done.stderr


def test_the_doctor_names_what_is_loaded(python: Python) -> None:
    code = "from service.system.doctor import _guarded, _plugins; print(_guarded('', _plugins))"
    named = "architecture group_max (field_notes 1), explainer top_words (field_notes 1)"
    assert f"Loaded: {named}, scorer words (field_notes 1)." in python(code).stdout
    absent = python(code, plugins="nowhere").stdout
    assert "status='failed'" in absent and "The plugin 'nowhere'" in absent


def test_the_command_line_takes_its_words(python: Python) -> None:
    def command(*words: str, plugins: str = "field_notes") -> Any:
        code = (
            f"import sys; sys.argv[1:] = {list(words)}; from service.cli.main import main; main()"
        )
        return python(code, plugins=plugins)

    submit = ("run", "submit", "run.yaml", "--set", "scoring.0.zzz=1")
    output = command(*submit[:3], "--set", "explanation.wordz=1")
    assert "explanation.wordz: unknown key; did you mean 'words'?" in output.stderr
    absent = command(*submit[:3], plugins="")
    assert "sae.architecture: 'group_max' is unknown" in absent.stderr
    broken = command(*submit[:3], plugins="nowhere")
    assert broken.stderr.strip().splitlines() == [
        "The plugin 'nowhere' (MONOSEMY_PLUGINS) cannot be loaded: ModuleNotFoundError: "
        "No module named 'nowhere'"
    ]
