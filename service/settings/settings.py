"""Settings, all from the environment (``MONOSEMY_*``) or, for addresses, from a running stack.

``monosemy up`` writes the addresses of the embedded parts to ``<home>/stack.json``; a setting that
the environment does not give is taken from there, so that every other command finds the stack.
"""

from __future__ import annotations

import ipaddress
import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from monosemy.address import (
    DEFAULT_HOME,
    DEFAULT_URL,
    base_of,
    read_stack,
    service_address,
    stack_file,
)
from monosemy.specs.parts import JudgeTesting
from service.settings.outbound import AllowList, HubNames, parse_address

STACK_PART = "MONOSEMY_PART"
"""Set for the parts that ``monosemy up`` starts: they have the settings that they were given, and
read no others from the stack's file."""


def default_home() -> Path:
    return Path(DEFAULT_HOME).expanduser()


TRACKERS = ("wandb", "trackio")
"""Experiment trackers that there are."""
READABLE = ("models", "texts", "saes")
"""Folders of the home that runs may read from."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="MONOSEMY_", env_ignore_empty=True, use_attribute_docstrings=True
    )

    home: Path = default_home()
    """Root of everything kept on disk: artifacts, embedded databases, logs."""
    url: str = DEFAULT_URL
    """Address of the API, as the CLI and ``monosemy.Client`` call it; it may end in ``/api/v1``."""
    api_key: SecretStr | None = None
    """Key that the CLI sends."""
    database_url: str | None = Field(None, repr=False)
    """PostgreSQL, as ``postgresql://user:password@host/database``."""
    database_admin_url: str | None = Field(None, repr=False)
    """The same server as its superuser, for ``monosemy migrate`` alone: if set, the role and the
    database of ``database_url`` are made first, with the extensions."""
    redis_url: str | None = Field(None, repr=False)
    """Redis or Valkey, as ``redis://host:6379/0`` or ``unix:///path``."""
    inference_url: str | None = None
    """Address of the warm inference server, as the API calls it."""
    parts_token: SecretStr | None = None
    """Secret that API and workers show to the inference server; ``monosemy up`` makes one.  Without
    one the inference server serves loopback addresses only."""
    inference_places: int = Field(8, ge=1, le=256)
    """Inference calls at a time; one API key gets at most three quarters of them.  As many searches
    at a time may wait for the embedder."""
    inference_queue: int = Field(32, ge=0, le=10_000)
    """Inference calls that may wait for a place, taken in turns by API key; beyond them callers are
    told to come back (503)."""
    host: str = "127.0.0.1"
    """Where the API listens."""
    port: int = Field(8420, ge=0, le=65_535)
    """Port of the API."""
    require_keys: bool = False
    """Ask every caller for an API key.  Without keys the API serves loopback addresses only."""
    public_url: str | None = None
    """Address that browsers reach this server by, such as ``https://monosemy.example``; with a path
    where a proxy serves it below one (``https://tools.example/monosemy``) and takes the path off.
    If not set, it is the scheme and ``Host`` of each request, which a proxy must then hand on."""
    secret: SecretStr | None = None
    """Keys the HMAC under which API keys are stored; required when ``require_keys`` is on."""
    cors_origins: str = ""
    """Origins, separated by commas, whose pages may call the API from a browser, such as
    ``https://notebooks.example``; ``*`` lets in every page that has a key."""
    embed_ancestors: str = ""
    """Origins, separated by commas, whose pages may show features in a frame
    (``/embed/...``), such as ``https://notes.example``; ``*`` for any.  When empty, only the
    explorer's own."""
    trusted_proxies: str = ""
    """Reverse proxies, as addresses and networks separated by commas (``10.0.0.7, 172.18.0.0/16``),
    whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` say who calls.  When empty, the sender is
    whoever connects, and those headers mean nothing."""
    judge_url: str | None = None
    """OpenAI-compatible endpoint that explains and scores, ending in ``/v1``."""
    judge_model: str | None = None
    """Model name at that endpoint."""
    judge_api_key: SecretStr | None = None
    """Key for that endpoint; sent there and kept nowhere."""
    judge_timeout: float = 120.0
    """Seconds to wait for one answer of the judge."""
    judge_concurrency: int | None = Field(None, ge=1)
    """Most calls to the judge at a time, over all workers and runs."""
    judge_requests_per_minute: float | None = Field(None, gt=0)
    """Most calls to the judge per minute, over all workers and runs."""
    judge_tokens_per_minute: float | None = Field(None, gt=0)
    """Most tokens per minute, of prompts and answers together, over all workers and runs."""
    judge_test: JudgeTesting = "warn"
    """What is done about a judge that has not been tested yet, where a run does not say
    (``judge.test``): ``warn``, ``require`` or ``skip``."""
    judge_price_input: float = 0.0
    """Price of a million prompt tokens, for costs and budgets, in any currency."""
    judge_price_cached: float | None = None
    """Price of a million prompt tokens that the endpoint had cached; that of others if not set."""
    judge_price_output: float = 0.0
    """Price of a million tokens of answers."""
    embedder: str = "all-minilm-l6-v2"
    """Sentence embedder for search: the packaged one, or a folder."""
    embedding_width: int = Field(384, ge=1, le=4000)
    """How many numbers its embeddings have: 384 for the packaged one.  After a change run
    ``monosemy migrate``; where embeddings are stored, it asks for ``monosemy reembed``."""
    lease_seconds: float = 30.0
    """A worker that has not renewed its lease for so long has lost its run."""
    poll_seconds: float = 2.0
    """How often workers look into Postgres for runs that Redis forgot to announce."""
    device: str = "auto"
    """Device of the inference server: ``auto``, or any torch device."""
    inference_memory_mb: int | None = Field(None, ge=1)
    """Megabytes (10^6 bytes) of weights that the inference server keeps loaded; if not set, half of
    the memory it may use, or 70 % of its GPU's."""
    retention_grace_hours: float = Field(24.0, ge=1)
    """``monosemy gc`` keeps whatever was written within this many hours."""
    retention_checkpoint_days: float = Field(30.0, ge=0)
    """Days for which checkpoints of failed and cancelled runs are kept for a retry."""
    retention_activations_days: float | None = Field(None, ge=0)
    """Days without a read after which an activation cache is garbage, though an SAE was made from
    it; not set, it is kept as long as that SAE."""
    retention_events_days: float | None = Field(None, ge=0)
    """Days after a run's end after which its progress and log lines are garbage; its changes of
    state stay.  Not set, all are kept."""
    outbound_allow: str = ""
    """Judges besides the configured one that runs may name, separated by commas: hosts
    (``judge.example`` or ``judge.example:8000``) and beginnings of addresses
    (``https://judge.example/v1``)."""
    plugins: str = ""
    """Modules, separated by commas, that add architectures, scorers and explainers; they must be
    importable by API, workers and CLI."""
    hub: str = ""
    """Repositories of the Hugging Face hub that runs may name (host models, datasets, SAEs),
    separated by commas: ``*`` for all, ``owner/*`` or ``owner/name``.  When empty, it is all in
    open mode, which serves this machine alone, and none where keys are asked for."""
    folders: str = ""
    """Folders that runs may read models, texts and SAEs from, separated by commas.  When empty, it
    is any in open mode, which serves this machine alone, and where keys are asked for none but
    ``models``, ``texts`` and ``saes`` in ``MONOSEMY_HOME``.  What else lies in the home (uploads,
    artifacts, logs, databases) is never a model or a text."""
    max_memory_mb: int = Field(96_000, ge=1, le=10**9)
    """Most megabytes (10^6 bytes) that one run may take for its host model, or for its SAEs with
    gradients, optimisers and buffer; never more than the machine or GPU has."""
    max_tokens: int = Field(10**10, ge=1, le=10**15)
    """Most tokens that one run may read, train on or index."""
    max_d_sae: int = Field(2**20, ge=2, le=2**31)
    """Most latents of an SAE that a run may train."""
    max_devices: int = Field(8, ge=1, le=1024)
    """Most devices that one run may train or trace on; never more than the machine has."""
    trackers: str = ""
    """Experiment trackers that runs may send readings to, separated by commas: ``wandb``,
    ``trackio``.  When empty, both in open mode, which serves this machine alone, and none where
    keys are asked for."""
    upload_max_bytes: int = Field(2 * 2**30, ge=1)
    """Largest body of an uploaded SAE."""
    upload_max_unpacked_bytes: int = Field(8 * 2**30, ge=1)
    """Most bytes that an uploaded archive may unpack to."""
    upload_key_count: int = Field(10, ge=1)
    """Uploads that one API key may have waiting for an import."""
    upload_key_bytes: int = Field(16 * 2**30, ge=1)
    """Bytes, unpacked, that the waiting uploads of one API key may have together."""
    body_idle_seconds: float = Field(30.0, gt=0)
    """A request whose body brings nothing for so long is ended (408)."""
    body_least_rate: float = Field(1024.0, ge=0)
    """Bytes a second that a body has to bring on average, once ``body_idle_seconds`` are over."""
    upload_keep_hours: float = Field(24.0, gt=0, le=24 * 365)
    """Hours after which uploads that no import has asked for are removed."""
    graph_max_bytes: int = Field(64 * 2**20, ge=1, le=2**30)
    """Largest body of an uploaded attribution graph."""
    graph_key_count: int = Field(200, ge=1)
    """Uploaded graphs that one API key may have."""
    graph_key_bytes: int = Field(2 * 2**30, ge=1)
    """Bytes that the uploaded graphs of one API key may have together, as they are stored."""
    otel_endpoint: str | None = None
    """OpenTelemetry collector that takes traces by OTLP over HTTP, such as
    ``http://collector:4318``; needs the extra ``otel``."""
    log_level: str = "INFO"
    """Level of the structured log on standard error."""

    @field_validator("cors_origins", "embed_ancestors")
    @classmethod
    def _origins(cls, value: str) -> str:
        for origin in _listed(value):
            parts = urlsplit(origin)
            plain = f"{parts.scheme}://{parts.netloc}" == origin and "@" not in origin
            if origin != "*" and not (plain and parts.scheme in ("http", "https")):
                raise ValueError(f"'{origin}' is no origin, such as https://notebooks.example")
        return value

    @property
    def allowed_origins(self) -> list[str]:
        """Of ``cors_origins``, one by one."""
        return _listed(self.cors_origins)

    @property
    def embedding_ancestors(self) -> str:
        """Of ``embed_ancestors``, as ``frame-ancestors`` of a policy."""
        return " ".join(_listed(self.embed_ancestors)) or "'self'"

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_address(value)
            except ValueError as error:
                raise ValueError(
                    f"'{value}' is no address such as https://monosemy.example: {error}"
                ) from None
        return value

    @property
    def public_origin(self) -> str | None:
        """Scheme, host and port of ``public_url``."""
        return None if self.public_url is None else parse_address(self.public_url).origin

    @property
    def path_prefix(self) -> str:
        """Path of ``public_url`` without a slash at its end: empty, or such as ``/monosemy``."""
        return "" if self.public_url is None else parse_address(self.public_url).path

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: str) -> str:
        for proxy in _listed(value):
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise ValueError(
                    f"'{proxy}' is no address or network, such as 10.0.0.7 or 172.18.0.0/16"
                ) from None
        return value

    @property
    def trusted_proxy_addresses(self) -> list[str]:
        """Of ``trusted_proxies``, one by one."""
        return _listed(self.trusted_proxies)

    @field_validator("outbound_allow")
    @classmethod
    def _outbound(cls, value: str) -> str:
        AllowList(_listed(value))
        return value

    @property
    def outbound_allowed(self) -> list[str]:
        """Of ``outbound_allow``, one by one."""
        return _listed(self.outbound_allow)

    @field_validator("hub")
    @classmethod
    def _hub(cls, value: str) -> str:
        HubNames(_listed(value))
        return value

    @field_validator("folders")
    @classmethod
    def _folders(cls, value: str) -> str:
        for folder in _listed(value):
            if not Path(folder).is_absolute():
                raise ValueError(f"'{folder}' is no absolute path")
        return value

    @property
    def readable_folders(self) -> list[Path] | None:
        """Of ``folders``, one by one, and those of the home; None for any."""
        if not self.folders and not self.require_keys:
            return None
        home = self.home.expanduser()
        return [*(Path(folder) for folder in _listed(self.folders)), *(home / n for n in READABLE)]

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        return base_of(value)

    @field_validator("trackers")
    @classmethod
    def _trackers(cls, value: str) -> str:
        for name in _listed(value):
            if name not in TRACKERS:
                raise ValueError(f"'{name}' is no tracker: {' or '.join(TRACKERS)}")
        return value

    @property
    def allowed_trackers(self) -> list[str]:
        """Of ``trackers``, one by one, with what an empty one stands for."""
        return _listed(self.trackers) or ([] if self.require_keys else list(TRACKERS))

    @property
    def hub_names(self) -> list[str]:
        """Of ``hub``, one by one, with what an empty one stands for."""
        return _listed(self.hub) or ([] if self.require_keys else ["*"])

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    @property
    def stack_file(self) -> Path:
        return stack_file(self.home)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        stack = _StackFile(settings_cls, init_settings, env_settings)
        return init_settings, env_settings, stack


def _listed(value: str) -> list[str]:
    return [part for each in value.split(",") if (part := each.strip())]


class _StackFile(PydanticBaseSettingsSource):
    """Addresses written by ``monosemy up``."""

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
    ) -> None:
        super().__init__(settings_cls)
        environment = env_settings()
        self._home = init_settings().get("home") or environment.get("home") or default_home()
        self._other_judge = bool(environment.get("judge_url") or init_settings().get("judge_url"))

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        if os.environ.get(STACK_PART):
            return {}
        data = read_stack(stack_file(self._home))
        data["url"] = service_address(self._home).url
        known = set(self.settings_cls.model_fields)
        if self._other_judge:  # which must not be sent the key of the stack's own
            known.discard("judge_api_key")
        return {key: value for key, value in data.items() if key in known}


def settings_with(**values: Any) -> Settings:
    """The settings, those of ``values`` that are not None laid over the environment."""
    return Settings(**{name: value for name, value in values.items() if value is not None})


@lru_cache
def get_settings() -> Settings:
    return Settings()
