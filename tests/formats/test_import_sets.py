"""A set from elsewhere comes in as a set, is tried on a page of text, and goes out again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import monosemy
from monosemy.errors import DataError, SpecError
from monosemy.formats.circuit_tracer import Places, save_set
from monosemy.formats.load import open_sae
from monosemy.formats.opened import Wanted
from monosemy.formats.saelens import load_sae, read_provenance
from monosemy.home import Home
from monosemy.hosted_sae import HostedSAE
from monosemy.import_check import TEXT, check_import
from monosemy.import_stage import import_saes
from monosemy.interp.host_text import HostText
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.saes.base import SAE
from monosemy.specs import ImportRun, parse_run
from monosemy.specs.sets import set_places
from tests.support.graph_coders import random_coder, transcoders

LAYERS = 4


def places(reads: str = "mlp.hook_in") -> Places:
    return Places(
        [f"blocks.{layer}.{reads}" for layer in range(LAYERS)],
        [f"blocks.{layer}.hook_mlp_out" for layer in range(LAYERS)],
        "tiny",
    )


@pytest.fixture
def folder(tiny_host: HostModel, tmp_path: Path) -> Path:
    saes = [random_coder(32, 32, skip=True, seed=layer) for layer in range(LAYERS)]
    save_set(saes, tmp_path / "theirs", places())
    return tmp_path / "theirs"


def imported(spec: ImportRun, host: HostModel, root: Path) -> Home:
    """As a run of a local home leaves them."""
    home = Home(root)
    names = [f"taken-{place}" for place in range(len(spec.members()))]
    folders = [root / "saes" / name for name in names]
    sets = set_places(spec, "taken") if spec.layers else None
    import_saes(spec, folders, lambda _: host, sets=sets)
    return home


def spec_of(folder: Path, **options: Any) -> ImportRun:
    return parse_run(ImportRun, {"source": str(folder), **options})


def test_layers_become_a_set_and_go_out_again(
    folder: Path, tiny_host: HostModel, tmp_path: Path
) -> None:
    home = imported(spec_of(folder, layers="1-3", name="ours"), tiny_host, tmp_path / "home")
    members = home.set("taken")
    assert [each.spec.name for each in members] == ["ours-1", "ours-2", "ours-3"]
    assert [each.spec.hooks.site for each in members] == [
        f"blocks.{layer}.mlp.hook_in" for layer in (1, 2, 3)
    ]
    x_ND = torch.randn(7, 32, generator=torch.Generator().manual_seed(1))
    for layer, each in zip((1, 2, 3), members, strict=True):
        assert torch.equal(load_sae(each.path)(x_ND), open_sae(folder, Wanted(layer)).sae(x_ND))
        check = read_provenance(each.path)["imported"]["check"]
        assert check["l0"] == 5 and check["tokens"] > 30, "k of TopK"
    with pytest.raises(DataError, match="every layer from 0"):
        monosemy.export("taken", tmp_path / "out", home=tmp_path / "home")
    whole = imported(spec_of(folder, layers="0-3"), tiny_host, tmp_path / "whole")
    out = monosemy.export("taken", tmp_path / "out", home=whole.workspace.root)
    for layer in range(LAYERS):
        a, b = (open_sae(each, Wanted(layer)) for each in (folder, out))
        assert torch.equal(a.sae(x_ND), b.sae(x_ND)) and a.metadata["hooks"] == b.metadata["hooks"]
    with pytest.raises(DataError, match="there already"):
        monosemy.export("taken", out, home=whole.workspace.root)
    one = monosemy.export("taken-2", tmp_path / "one", "sparsify", whole.workspace.root)
    torch.testing.assert_close(open_sae(one).sae(x_ND), open_sae(folder, Wanted(2)).sae(x_ND))
    with pytest.raises(DataError, match="holds one SAE"):
        monosemy.export("taken", tmp_path / "no", "sparsify", whole.workspace.root)


def test_one_of_a_set_by_its_site(folder: Path, tiny_host: HostModel, tmp_path: Path) -> None:
    spec = spec_of(folder, site="blocks.2.mlp.hook_in", writes="blocks.2.hook_mlp_out")
    home = imported(spec, tiny_host, tmp_path / "home")
    x_ND = torch.randn(7, 32, generator=torch.Generator().manual_seed(1))
    theirs = open_sae(folder, Wanted(2)).sae
    assert torch.equal(load_sae(home.sae("taken-0").path)(x_ND), theirs(x_ND))


def test_a_set_needs_to_be_told_which_layers(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4 layers, 0 to 3\. Name the layers"):
        import_saes(spec_of(folder), [tmp_path / "x"], lambda _: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(DataError, match="none for layer 9"):
        import_saes(spec_of(folder, layers=[9]), [tmp_path / "x"], lambda _: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": "3-1"}, "layers"),
        ({"layers": [2, 2]}, "must rise"),
        ({"layers": "0-1", "site": "blocks.0.mlp.hook_in"}, "leave out site"),
        ({"layers": "0-1", "writes": "blocks.0.hook_mlp_out"}, "leave out site"),
    ],
)
def test_layers_are_of_a_set(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spec_of(Path("theirs"), **options)


class Heard(Reporter):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str, **figures: Any) -> None:
        self.lines.append(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(SILENT, name)


def exact(host: HostModel, layer: int) -> SAE:
    """A transcoder whose linear path is fitted to what the MLP does to the text of the
    check."""
    text = HostText(host)
    ids = torch.tensor([text.with_bos(text.tokens(TEXT))[: host.abilities.positions]])
    sites = [f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.hook_mlp_out"]
    captured = host.capture(ids, torch.ones_like(ids), sites)
    x, y = (captured[site][0, 1:].double() for site in sites)
    sae = random_coder(32, 32, skip=True)
    bordered = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    solution = torch.linalg.lstsq(bordered, y).solution.float()
    with torch.no_grad():
        sae.W_dec.mul_(1e-3)
        sae.W_skip.copy_(solution[:-1].T)  # type: ignore[operator]
        sae.b_dec.copy_(solution[-1])
    return sae


def test_the_check_tells_what_cannot_be_right(tiny_host: HostModel) -> None:
    """A coder that fits says nothing; one whose weights are transposed, or in other units, does."""
    heard = Heard()
    (hosted,) = transcoders(tiny_host, [1], skip=True)
    site = str(hosted.hooks.reads[0])
    fitted = HostedSAE.at(tiny_host, exact(tiny_host, 1), site, hosted.target)
    good = check_import(fitted, {}, heard)
    assert good is not None and good["fvu"] < 0.95 and not good["doubts"] and not heard.lines

    def doubted(change: Callable[[Any], object], **named: Any) -> dict[str, Any]:
        sae = exact(tiny_host, 1)
        with torch.no_grad():
            change(sae)
        wrong = HostedSAE.at(tiny_host, sae, site, hosted.target)
        check = check_import(wrong, named, heard)
        assert check is not None and heard.lines[-len(check["doubts"]) :] == check["doubts"]
        return check

    assert doubted(lambda sae: sae.W_skip.mul_(3))["fvu"] > 1
    turned = doubted(lambda sae: sae.W_skip.copy_(sae.W_skip.T.clone()))
    assert "worse than the mean" in turned["doubts"][0]
    assert "the files say 64" in doubted(lambda sae: None, l0=64)["doubts"][0]
    silent = doubted(lambda sae: (sae.W_enc.zero_(), sae.b_enc.fill_(-1.0)))
    assert silent["l0"] == 0 and "0 of 48 latents fire" in silent["doubts"][0]


def test_what_files_say_is_checked_against_the_host(
    folder: Path, tiny_host: HostModel, tmp_path: Path
) -> None:
    def widths(width: int) -> list[SAE]:
        return [random_coder(width, width) for _ in range(LAYERS)]

    save_set(widths(16), tmp_path / "narrow", places())
    with pytest.raises(DataError, match="reads 16 numbers"):
        import_saes(spec_of(tmp_path / "narrow", layers=[0]), [tmp_path / "x"], lambda _: tiny_host)
    assert not (tmp_path / "x").exists()
