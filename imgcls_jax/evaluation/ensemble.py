"""Ensembles: soft voting, voting by confidence and stacking of several runs, from the predictions in their folders.

Probabilities are [N, K], labels int [N]; those of M members [M, N, K].
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.evaluation import calibration, paired
from imgcls_jax.evaluation.combination import Combination, confidence_shares, stacked
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import score
from imgcls_jax.run.folder import ENSEMBLE, RunFolder

RULES = ("equal", "fitted", "greedy", "confidence", "stacked")
MOST_ROUNDS = 50  # of the greedy selection; members may come in more than once
ITERATIONS = 500  # of the fit: it is over long before


def combine(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probabilities float64 [N, K]; weights [M], which sum to 1."""
    return np.tensordot(weights, np.asarray(members, np.float64), axes=1)


def fitted(members: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The weights [M] under which the labels are likeliest, by expectation maximisation: a concave problem."""
    likelihood = np.maximum(
        members[:, np.arange(len(labels)), labels].astype(np.float64), calibration.SMALLEST
    )
    weights = np.full(len(members), 1 / len(members))
    for _ in range(ITERATIONS):
        shares = weights[:, None] * likelihood
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def greedy(members: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights [M] by selection with replacement (Caruana et al., 2004): in each round comes in who helps most.

    By accuracy, then by likelihood; it starts from nothing and ends where nobody helps any more.
    """
    counts, best = np.zeros(len(members)), (-1.0, -np.inf)
    for _ in range(MOST_ROUNDS):
        tried = [counts + one for one in np.eye(len(members))]
        found = [_quality(combine(members, each / each.sum()), labels) for each in tried]
        winner = max(range(len(tried)), key=found.__getitem__)
        if found[winner] <= best:
            break
        counts, best = tried[winner], found[winner]
    return counts / counts.sum()


def _quality(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    right = float((probabilities.argmax(-1) == labels).mean())
    return right, -calibration.negative_log_likelihood(probabilities, labels)


def combination(rule: str, runs: Sequence[RunFolder]) -> Combination:
    """How the rule combines the runs: by weights, as of `weigh`, by confidence, or stacked on their validation set.

    Raises as `weigh` does.
    """
    if rule == "stacked":
        return stacked(*_validation(runs))
    if rule == "confidence":
        members = np.stack([run.predictions[0] for run in runs])
        return Combination(confidence_shares(members).mean(1), by_confidence=True)
    return Combination(weigh(rule, runs))


def weigh(rule: str, runs: Sequence[RunFolder]) -> np.ndarray:
    """The weights [M] that the rule gives the runs: equal, fitted or greedy on their validation set, or figures.

    Raises ConfigError for a rule that is none, RunError where there is no common validation set.
    """
    weights = weights_of(rule, len(runs))
    if weights is None:
        members, labels = _validation(runs)
        return {"fitted": fitted, "greedy": greedy}[rule](members, labels)
    return weights


def weights_of(rule: str, count: int) -> np.ndarray | None:
    """The weights [M] of so many members where the rule says them without their predictions, otherwise None.

    Raises ConfigError for a rule that is none.
    """
    if rule == "equal":
        return np.full(count, 1 / count)
    if rule in RULES:
        return None
    try:
        weights = np.array([float(text) for text in rule.split(",")])
    except ValueError:
        weights = np.empty(0)
    if len(weights) != count or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ConfigError(
            f"weights are {rule!r}: give {', '.join(RULES)}, or a figure of 0 or more for each of the {count} "
            f"members, as in {','.join(['1'] * count)}."
        )
    return weights / weights.sum()


def _validation(runs: Sequence[RunFolder]) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for run in runs:
        if (predictions := run.validation_predictions) is None:
            raise RunError(
                f"{run.path} has no predictions of its validation set: imgcls report {run.path} adds them."
            )
        found.append(predictions)
    prints = [run.data["splits"]["validation"]["fingerprint"] for run in runs]
    if len(set(prints)) > 1:
        other = next(run for run, each in zip(runs, prints, strict=True) if each != prints[0])
        raise RunError(
            f"{runs[0].path} and {other.path} have different validation sets, on which weights cannot be fitted. Train "
            "them with the same config.data.validation and config.data.split_seed, or take --weights=equal."
        )
    return np.stack([probabilities for probabilities, _ in found]), found[0][1]


def check_alike(runs: Sequence[RunFolder]) -> None:
    """Raises RunError where runs cannot vote together: fewer than two, other classes, another test set, one twice."""
    if len(runs) < 2:
        raise RunError(
            "An ensemble takes two runs or more: python -m imgcls_jax ensemble runs/ONE runs/OTHER."
        )
    paths = [run.path.resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        run.test  # noqa: B018  an error where the run has not got that far
        if paths.count(path) > 1:
            raise RunError(
                f"{run.path} is given twice. Weights say how much a member counts: --weights=2,1."
            )
        for what, ours, theirs in (
            ("classes", run.data["class_names"], runs[0].data["class_names"]),
            (
                "a test set",
                *(each.data["splits"]["test"]["fingerprint"] for each in (run, runs[0])),
            ),
        ):
            if ours != theirs:
                raise RunError(
                    f"{run.path} has {what} other than {runs[0].path}: they cannot vote together."
                )
        shape = run.data["splits"]["test"]["examples"], len(run.data["class_names"])
        if run.predictions[0].shape != shape:
            raise RunError(
                f"{run.path}: its predictions are {run.predictions[0].shape}, of its test set {shape}."
            )


def fingerprint(run: RunFolder) -> str:
    """SHA-256 over a run's predictions on its test set, which are those of its weights alone."""
    probabilities, labels = run.predictions
    digest = hashlib.sha256(repr((probabilities.shape, run.data["class_names"])).encode())
    digest.update(np.ascontiguousarray(probabilities, "<f4"))
    digest.update(np.ascontiguousarray(labels, "<i4"))
    return digest.hexdigest()


def vote(
    runs: Sequence[RunFolder], rule: str, home: Path = Path()
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None, dict[str, Any]]:
    """The ensemble's probabilities on the test set; those on the validation set, with its labels, where all have the
    same one; and its figures.

    home: the ensemble's folder. The figures are ready for JSON: the rule; the members with their paths from there,
    fingerprint, weight, accuracy and loss, and how the ensemble compares with each (evaluation/paired.py);
    `soft_voting`, the same of a mean of equal weights, where that is not the rule; `test`, its scores; `disagreement`
    [M, M], the share of the test images on which two members differ; `oracle`, the share that at least one gets right;
    mean mutual information between prediction and member where the ensemble is right and wrong, in nats; rejection
    curves by it and by entropy; and what `Combination.from_json` needs.
    """
    check_alike(runs)
    rule_of_all = combination(rule, runs)
    weights = rule_of_all.weights
    members, labels = np.stack([run.predictions[0] for run in runs]), runs[0].predictions[1]
    voted = rule_of_all(members)
    guesses, right = members.argmax(-1), voted.argmax(-1) == labels
    informed = calibration.mutual_information(members, weights)
    class_names = runs[0].data["class_names"]
    found = {
        "rule": rule,
        "members": [
            {
                "run": os.path.relpath(run.path.resolve(), home.resolve()),
                "fingerprint": fingerprint(run),
                "weight": float(weight),
                **{key: run.test[key] for key in ("accuracy", "loss", "parameters")},
                "against": paired.compare(right, guess == labels),  # the ensemble first
            }
            for run, weight, guess in zip(runs, weights, guesses, strict=True)
        ],
        "test": score(calibration.log_probabilities(voted), labels, class_names),
        "oracle": float((guesses == labels).any(0).mean()),
        "disagreement": [[float((one != other).mean()) for other in guesses] for one in guesses],
        "mutual_information": {
            "right": float(informed[right].mean()) if right.any() else None,
            "wrong": float(informed[~right].mean()) if not right.all() else None,
        },
        "rejection": {
            "entropy": calibration.rejection(calibration.entropy(voted), right),
            "mutual_information": calibration.rejection(informed, right),
        },
    }
    found |= rule_of_all.to_json()
    if rule != "equal":
        plain = combine(members, np.full(len(runs), 1 / len(runs)))
        scores = score(calibration.log_probabilities(plain), labels, class_names)
        found["soft_voting"] = {key: scores[key] for key in ("accuracy", "loss")}
        found["soft_voting"]["against"] = paired.compare(right, plain.argmax(-1) == labels)
    return voted, _voted_validation(runs, rule_of_all), found


def _voted_validation(
    runs: Sequence[RunFolder], rule: Combination
) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        members, labels = _validation(runs)
    except RunError:
        return None
    return rule(members), labels


def _member(run: RunFolder, member: Mapping[str, Any]) -> RunFolder:
    """The folder of a member of the ensemble in `run`, once it has been found to be the run that voted."""
    again = "make the ensemble again: python -m imgcls_jax ensemble RUN RUN..."
    if "fingerprint" not in member:
        raise RunError(
            f"{run.path / ENSEMBLE} is of an older version, which did not keep where its members are: {again}"
        )
    folder = RunFolder(os.path.normpath(run.path / member["run"]))
    if not folder.path.is_dir():
        raise RunError(
            f"{folder.path}, a member of {run.path}, is missing. Put it back, or {again}"
        )
    if fingerprint(folder) != member["fingerprint"]:
        raise RunError(
            f"{folder.path} is another run than the member of {run.path} that voted. Put that back, or {again}"
        )
    return folder


class EnsemblePredictor:
    """The ensemble in a folder that `imgcls ensemble` wrote; needs its members' folders, where they were from there.

    Raises RunError where one of them is missing, or is another run than the one that voted.
    """

    def __init__(self, run: RunFolder):
        found = run.read_json(ENSEMBLE)
        members = found["members"]
        if not any(member["weight"] > 0 for member in members):
            raise RunError(
                f"{run.path / ENSEMBLE} names no member that counts: make the ensemble anew."
            )
        self.name = run.name
        counting = [member for member in members if member["weight"] > 0]
        weights = np.array([member["weight"] for member in counting])
        self.combination = Combination.from_json(weights, found)
        self.members = [Predictor(_member(run, member)) for member in counting]
        first = self.members[0]
        self.class_names, self.shape, self.reader = first.class_names, first.shape, first.reader
        self.batch_size = min(member.batch_size for member in self.members)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """images uint8 [N, H, W, C] -> probabilities float64 [N, K]."""
        return self.combination(np.stack([member.probabilities(images) for member in self.members]))
