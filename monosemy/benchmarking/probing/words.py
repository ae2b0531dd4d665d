"""What the words alone tell: baselines that read no model."""

from __future__ import annotations

import numpy as np

from monosemy.benchmarking.probing.probe import Told, told
from monosemy.benchmarking.probing.split import Ints, Split
from monosemy.benchmarking.probing.tasks import ProbingTask

_STRENGTH = 10.0


def told_by_characters(task: ProbingTask, split: Split) -> Told:
    """Pieces of two to four characters by how rare they are (TF-IDF), a logistic probe of fixed
    strength on them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    pieces = TfidfVectorizer(analyzer="char", ngram_range=(2, 4), sublinear_tf=True)
    train = pieces.fit_transform(_texts(task, split.train))
    model = LogisticRegression(C=_STRENGTH, max_iter=1000).fit(train, task.labels[split.train])
    score_M = model.decision_function(pieces.transform(_texts(task, split.test)))
    on_M = task.labels[split.test]
    return Told(
        auc=float(roc_auc_score(on_M, score_M)),
        accuracy=float(accuracy_score(on_M, score_M > 0)),
        f1=float(f1_score(on_M, score_M > 0, average="weighted")),
        validation_auc=float("nan"),
        converged=bool(model.n_iter_[0] < 1000),
    )


def told_by_length(task: ProbingTask, split: Split) -> Told:
    """The number of characters alone."""
    length_N1 = np.array([[float(len(text))] for text in task.texts])
    return told(
        length_N1[split.train],
        task.labels[split.train],
        length_N1[split.test],
        task.labels[split.test],
    )


def _texts(task: ProbingTask, rows: Ints) -> list[str]:
    return [task.texts[at] for at in rows]
