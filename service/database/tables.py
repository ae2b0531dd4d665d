"""Tables of runs, models, SAEs, features, explanations and scores.  Postgres is the truth about
runs; Redis only wakes workers.

Sizes are kept small on purpose: contexts hold token ids once per token store, a feature's examples
are one value of bytes that refers to them (``monosemy.index.example_bytes``).
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    BigInteger,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own idiom
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        str: Text,
        bytes: LargeBinary,
        uuid.UUID: UUID(as_uuid=True),
        dt.datetime: DateTime(timezone=True),
        float: Float(53),
    }


def id_column() -> Mapped[uuid.UUID]:
    return mapped_column(primary_key=True, default=uuid.uuid4)


def owner_column() -> Mapped[uuid.UUID | None]:
    """The API key that made the row; None in open mode, and where nobody noted it."""
    return mapped_column(ForeignKey("api_keys.id", ondelete="SET NULL"))


def of_explanation(table: str) -> ForeignKeyConstraint:
    """``table``'s ``sae_id`` and ``explanation_id`` name an explanation, with which a row goes.

    Every key of these tables begins with ``sae_id``, so that they can be divided by SAE.
    """
    return ForeignKeyConstraint(
        ["sae_id", "explanation_id"],
        ["explanations.sae_id", "explanations.id"],
        name=f"fk_{table}_explanation",
        ondelete="CASCADE",
    )


def now_column() -> Mapped[dt.datetime]:
    return mapped_column(server_default=func.now())


class Run(Base):
    """A job.  States: queued, running, cancelling, cancelled, succeeded, failed.

    A pipeline is a run whose children (``parent_id``, ordered by ``position``) do the work; a child
    with ``depends_on`` may start once that run has succeeded.
    """

    __tablename__ = "runs"
    id: Mapped[uuid.UUID] = id_column()
    kind: Mapped[str]
    queue: Mapped[str]
    """``gpu`` or ``interp``; ``none`` for a pipeline, which no worker takes."""
    state: Mapped[str] = mapped_column(server_default="queued")
    spec: Mapped[dict[str, Any]]
    parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    depends_on: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """The latest ``StageProgress.as_dict()``."""
    stages: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    """Finished stages: name, unit, done, seconds, rate, metrics."""
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int] = mapped_column(server_default="3")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    """Of two that wait, the one with the higher goes first."""
    not_before: Mapped[dt.datetime] = now_column()
    """A failed attempt waits until then."""
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[dt.datetime | None]
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = now_column()
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]

    @property
    def subject(self) -> str | None:
        """The name that its spec gives, else the SAE that it names."""
        named = (self.spec.get("name"), self.spec.get("sae"))
        return next((each for each in named if isinstance(each, str) and each), None)

    @property
    def other(self) -> str | None:
        """A second SAE that its spec names."""
        other = self.spec.get("other")
        return other if isinstance(other, str) and other else None

    @property
    def scorer(self) -> str | None:
        scoring = self.spec.get("scoring")
        scorer = scoring.get("scorer") if isinstance(scoring, dict) else None
        return scorer if isinstance(scorer, str) else None

    __table_args__ = (
        Index("ix_runs_claimable", "queue", "state", text("priority DESC"), "created_at"),
        Index("ix_runs_created", "created_at", "id"),
        Index("ix_runs_parent", "parent_id"),
    )


class Queue(Base):
    """What somebody has said of a queue; one of which nobody said anything has no row."""

    __tablename__ = "queues"
    name: Mapped[str] = mapped_column(primary_key=True)
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    max_running: Mapped[int | None]
    changed_at: Mapped[dt.datetime] = now_column()


class Submission(Base):
    """A run that was submitted under an ``Idempotency-Key``, kept for a day."""

    __tablename__ = "submissions"
    submitter: Mapped[str] = mapped_column(primary_key=True)
    """Id of the API key; empty in open mode."""
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    """Of what was submitted."""
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    created_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (Index("ix_submissions_created", "created_at"),)


class Upload(Base):
    """Whose an uploaded SAE folder is; the folder itself lies under the artifact root."""

    __tablename__ = "uploads"
    id: Mapped[uuid.UUID] = id_column()
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = now_column()


class RunEvent(Base):
    """What happened to a run, in order: state changes, progress (throttled), log lines."""

    __tablename__ = "run_events"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    type: Mapped[str]
    """``state``, ``progress``, ``stage`` (a finished one) or ``log``."""
    data: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (Index("ix_run_events_run", "run_id", "id"),)


class TrainingReading(Base):
    """A reading of an SAE in training; they stay when the events of their run are forgotten."""

    __tablename__ = "training_readings"
    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
    )
    place: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    """Of the SAE among those that the run trains."""
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    reading: Mapped[dict[str, Any]]
    """``monosemy.specs.readings.TrainingReading``."""


class Model(Base):
    """A host model, with what is needed to show its tokens without loading it."""

    __tablename__ = "models"
    id: Mapped[uuid.UUID] = id_column()
    name: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    info: Mapped[dict[str, Any]]
    """n_layers, d_model, d_vocab, architecture, sites, fingerprint, has_chat_template."""
    token_bytes: Mapped[bytes]
    """``TokenBytes.pack()``: the bytes of every token id (about 0.5 MB)."""
    created_at: Mapped[dt.datetime] = now_column()


class Sae(Base):
    __tablename__ = "saes"
    id: Mapped[uuid.UUID] = id_column()
    name: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("models.id"))
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    site: Mapped[str]
    architecture: Mapped[str]
    d_in: Mapped[int]
    d_sae: Mapped[int]
    path: Mapped[str]
    """SAE folder, relative to the artifact root."""
    config: Mapped[dict[str, Any]]
    """The SAE part of the spec, with text and training."""
    metrics: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """Training metrics at the top level, ``evaluation`` beneath once it has run."""
    provenance: Mapped[dict[str, Any]]
    index: Mapped[dict[str, Any] | None]
    """The current index: path, text_id, tokens, documents, bytes per feature; None before it."""
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = now_column()


class Context(Base):
    """One row of a token store; examples of all features of all SAEs over that store share it."""

    __tablename__ = "contexts"
    text_id: Mapped[str] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[int]
    start: Mapped[int] = mapped_column(BigInteger)
    """Flat position of the row's first token in the token store."""
    token_ids: Mapped[bytes]
    """Little-endian uint32."""


class Document(Base):
    __tablename__ = "documents"
    text_id: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Feature(Base):
    """One latent as people see it: statistics, evidence, examples, evidence label."""

    __tablename__ = "features"
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("saes.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(Integer, primary_key=True)
    density: Mapped[float]
    max_activation: Mapped[float]
    postings: Mapped[int] = mapped_column(BigInteger)
    label: Mapped[str]
    """Evidence label: deterministic, no LLM."""
    evidence: Mapped[dict[str, Any]]
    """``FeatureEvidence.as_dict()``: top tokens, promoted, suppressed, histogram, neighbours."""
    examples: Mapped[bytes]
    """As bytes."""
    words: Mapped[Any] = mapped_column(
        TSVECTOR,
        Computed("to_tsvector('english'::regconfig, label)", persisted=True),
        deferred=True,
    )
    __table_args__ = (
        Index("ix_features_density", "sae_id", "density", "index"),
        Index("ix_features_max", "sae_id", "max_activation", "index"),
        Index("ix_features_words", "words", postgresql_using="gin"),
        Index(
            "ix_features_label_trgm",
            "label",
            postgresql_using="gin",
            postgresql_ops={"label": "gin_trgm_ops"},
        ),
    )


class Explanation(Base):
    __tablename__ = "explanations"
    sae_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("saes.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[uuid.UUID] = id_column()
    feature: Mapped[int]
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    explainer: Mapped[str]
    key: Mapped[str]
    """Hash of explainer, prompt version, judge and examples: the same work is stored once."""
    text: Mapped[str]
    label: Mapped[str]
    judge: Mapped[str]
    provenance: Mapped[dict[str, Any]]
    embedding: Mapped[Any | None] = mapped_column(HALFVEC())
    """Its width is the deployment's (``embedding_width``)."""
    words: Mapped[Any] = mapped_column(
        TSVECTOR,
        Computed("to_tsvector('english'::regconfig, label || ' ' || text)", persisted=True),
        deferred=True,
    )
    created_by: Mapped[uuid.UUID | None] = owner_column()
    created_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (
        UniqueConstraint("sae_id", "feature", "key", name="uq_explanations_key"),
        Index("ix_explanations_id", "id"),
        Index("ix_explanations_words", "words", postgresql_using="gin"),
        Index(
            "ix_explanations_text_trgm",
            "text",
            postgresql_using="gin",
            postgresql_ops={"text": "gin_trgm_ops"},
        ),
        Index(
            "ix_explanations_embedding",
            "embedding",
            postgresql_using="hnsw",
            postgresql_ops={"embedding": "halfvec_cosine_ops"},
        ),
    )

    @property
    def judge_test(self) -> dict[str, Any] | None:
        """Of the judge that wrote it, as it was known then (``JudgeTestBrief``)."""
        return self.provenance.get("judge_test")


class Vote(Base):
    """What one reader holds of an explanation."""

    __tablename__ = "explanation_votes"
    sae_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    explanation_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    voter: Mapped[str] = mapped_column(primary_key=True)
    """Id of the API key, or ``local`` in open mode."""
    value: Mapped[int] = mapped_column(SmallInteger)
    """1 or -1."""
    created_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (of_explanation("explanation_votes"),)


class Score(Base):
    """How well an explanation predicts: never without n, interval and baseline."""

    __tablename__ = "scores"
    sae_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = id_column()
    explanation_id: Mapped[uuid.UUID]
    run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    scorer: Mapped[str]
    key: Mapped[str]
    metric: Mapped[str]
    value: Mapped[float | None]
    """None when every judgement failed."""
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int]
    n_failed: Mapped[int]
    baseline: Mapped[float | None]
    details: Mapped[dict[str, Any]]
    """Confusion counts, worst case, baseline's own n and interval, every single judgement."""
    judge: Mapped[str]
    created_at: Mapped[dt.datetime] = now_column()
    __table_args__ = (
        UniqueConstraint("sae_id", "explanation_id", "key", name="uq_scores_key"),
        Index("ix_scores_scorer", "sae_id", "scorer", postgresql_where=text("value IS NOT NULL")),
        of_explanation("scores"),
    )

    @property
    def judge_test(self) -> dict[str, Any] | None:
        """Of its judge, as it was known then (``JudgeTestBrief``)."""
        return self.details.get("judge_test")
