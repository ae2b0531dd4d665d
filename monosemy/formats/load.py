"""An SAE out of whatever names it: a folder of any known format, or a SAELens release."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from monosemy.errors import DataError
from monosemy.formats import (
    circuit_tracer,
    clt_forge,
    dictionary_crosscoder,
    dictionary_learning,
    gemma_scope,
    llama_scope,
    qwen_scope,
    saelens,
    sparsify,
)
from monosemy.formats.folder import UNUSABLE, pickles, read_json
from monosemy.formats.hub import fetch_hub, parse_hub
from monosemy.formats.opened import ANY, OpenedSAE, Wanted

_DROPPED = ("sae_lens_version", "sae_lens_training_version")


class Reader(Protocol):
    """A module that reads one family of formats."""

    NAME: str

    def holds(self, folder: Path) -> bool:
        """By the files that are there."""

    def open_folder(self, folder: Path, wanted: Wanted) -> OpenedSAE:
        """``DataError`` for what cannot be read."""


_READERS: tuple[Reader, ...] = (
    circuit_tracer,
    clt_forge,
    qwen_scope,
    llama_scope,
    gemma_scope,
    dictionary_crosscoder,
)
"""Asked in this order, before the formats of single SAEs that are told apart by less."""

_SETS = (circuit_tracer, qwen_scope)
"""Those whose folders may hold an SAE for each of several layers."""


def open_sae(reference: str | Path, wanted: Wanted = ANY) -> OpenedSAE:
    """Opens a folder (SAELens v6 or ours, sparsify, dictionary_learning, circuit-tracer, Gemma
    Scope, Llama Scope and its library's, CLT-Forge, Qwen-Scope), or ``release/sae_id`` as SAELens
    names its releases, or ``owner/repository/sae_id`` of an SAE on the hub.

    ``hub:owner/name[@revision][:folder]`` names a folder of any of these formats on the hub.
    Releases need the sae-lens package, which downloads them.  ``wanted`` says what files leave
    open.  Raises ``DataError`` where the reference is neither, cannot be reached or cannot be read.
    """
    folder = Path(reference)
    if folder.is_dir():
        return _open_folder(folder, wanted)
    named = parse_hub(str(reference))
    if named is not None:
        return _open_folder(fetch_hub(named), wanted)
    if isinstance(reference, Path) or reference[:1] in "/.~" or "/" not in reference:
        raise DataError(
            f"{reference} is no folder.",
            "Name a folder of an SAE, or release/sae_id of a SAELens release.",
        )
    return _open_release(reference)


def layers_in(folder: Path) -> list[int]:
    """The layers for each of which a folder holds an SAE; none where it holds a single one."""
    return next((kind.layers_in(folder) for kind in _SETS if kind.holds(folder)), [])


def _open_folder(folder: Path, wanted: Wanted = ANY) -> OpenedSAE:
    reader = next((each for each in _READERS if each.holds(folder)), None)
    if reader is not None:
        return reader.open_folder(folder, wanted)
    kind = _format(folder)
    if kind == "sparsify":
        return OpenedSAE(sparsify.load_sparsify(folder), sparsify.sparsify_metadata(folder), kind)
    if kind == "dictionary_learning":
        metadata = dictionary_learning.dictionary_metadata(folder)
        return OpenedSAE(dictionary_learning.load_dictionary(folder), metadata, kind)
    if kind == "saelens":
        metadata = saelens.read_metadata(folder)
        density = saelens.read_density(folder)
        return OpenedSAE(saelens.load_sae(folder), _known(metadata), kind, density)
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and _is_sae(path))
    advice = f"Its folders do: {', '.join(inside[:8])}." if inside else None
    unsafe = pickles(folder)
    if advice is None and unsafe:
        advice = f"{', '.join(unsafe[:8])}: pickled weights can run code and are never read."
    raise DataError(f"{folder} holds no SAE of a format that is known here.", advice)


def _is_sae(folder: Path) -> bool:
    return _format(folder) is not None or any(each.holds(folder) for each in _READERS)


def _format(folder: Path) -> str | None:
    """By the files that are there; where weights are missing, by what the configuration says."""
    if (folder / saelens.CONFIG).is_file():
        if (folder / saelens.WEIGHTS).is_file():
            return "saelens"
        if (folder / sparsify.WEIGHTS).is_file():
            return "sparsify"
        config = read_json(folder / saelens.CONFIG)
        return "sparsify" if "expansion_factor" in config and "k" in config else "saelens"
    weights = (dictionary_learning.WEIGHTS, dictionary_learning.PICKLE)
    if (folder / dictionary_learning.CONFIG).is_file() and any(
        (folder / name).is_file() for name in weights
    ):
        return "dictionary_learning"
    return "saelens" if (folder / saelens.WEIGHTS).is_file() else None


def _known(metadata: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metadata.items() if v is not None and k not in _DROPPED}


def _open_release(reference: str) -> OpenedSAE:
    """Through sae-lens, which knows where releases lie and how the foreign ones are laid out.

    But for sparsify's: those it reads wrongly (decoder transposed, centring taken from another
    option), so that only their files are fetched.
    """
    try:
        from sae_lens import SAE as Theirs
        from sae_lens.loading.pretrained_sae_loaders import get_conversion_loader_name
        from sae_lens.loading.pretrained_saes_directory import (
            get_pretrained_saes_directory,
            get_repo_id_and_folder_name,
        )
    except ImportError:
        raise DataError(
            f"{reference} is no folder, and SAELens' releases need the sae-lens package.",
            "pip install sae-lens",
        ) from None
    release, _, sae_id = reference.partition("/")
    if release not in get_pretrained_saes_directory():
        owner, (name, _, sae_id) = release, sae_id.partition("/")
        release = f"{owner}/{name}"
        if not sae_id:
            raise DataError(f"{reference} is no folder and '{owner}' no release of SAELens.")
    try:
        if get_conversion_loader_name(release) == "sparsify":
            return _open_folder(_fetched(*get_repo_id_and_folder_name(release, sae_id)))
        theirs = Theirs.from_pretrained(release, sae_id, device="cpu", dtype="float32")
        config = theirs.cfg.to_dict()
        tensors = dict(theirs.state_dict())
    except DataError:
        raise
    except Exception as error:  # a hub that is away, an unknown name, anything of a foreign loader
        raise DataError(
            f"SAELens could not load {sae_id} of {release}: {type(error).__name__}: {error}",
            "Is the name right, and is the hub within reach?",
        ) from None
    try:
        sae = saelens.imported(config, tensors)
    except DataError as error:
        raise DataError(f"{reference}: {error}") from None
    except (KeyError, *UNUSABLE) as error:
        raise DataError(f"{reference} is no usable SAE: {type(error).__name__}: {error}.") from None
    return OpenedSAE(sae, _known(dict(config.get("metadata") or {})), "saelens")


def _fetched(repository: str, folder: str) -> Path:
    """The files of a sparsify folder on the hub, in its cache on this machine."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    hf_hub_download(repository, f"{folder}/{sparsify.WEIGHTS}")
    with suppress(EntryNotFoundError):  # of the run: names the model
        hf_hub_download(repository, str(Path(folder).parent / "config.json"))
    return Path(hf_hub_download(repository, f"{folder}/{sparsify.CONFIG}")).parent
