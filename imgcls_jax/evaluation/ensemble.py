"""Ensembles of finished runs, from the predictions in their folders.

Probabilities are [N, K], those of M members [M, N, K]; labels are int [N].
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.evaluation import calibration, paired
from imgcls_jax.evaluation.combination import (
    Combination,
    confidence_shares,
    cross_fitted_stacking,
    equal_weights,
    fit_stacking,
    fit_weights,
    greedy_weights,
    weighted_mean,
)
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import Predictions, score
from imgcls_jax.run.ensemble_folder import EnsembleFolder, path_from, voters
from imgcls_jax.run.folder import ENSEMBLE, TEST, RunFolder

MAX_STACKED = 5_000_000  # numbers of a stacking layer: ensemble.json then has about 150 MB
RULES = ("equal", "fitted", "greedy", "confidence", "stacked")
MAKE_AGAIN = "make the ensemble again: python -m imgcls_jax ensemble RUN RUN..."


def fit_combination(rule: str, runs: Sequence[RunFolder]) -> Combination:
    """Returns how the rule combines the runs, fitted on their validation set if it needs fitting.

    Raises as `member_weights` does.
    """
    if rule == "stacked":
        _check_stackable(len(runs), num_classes=len(runs[0].data["class_names"]))
        members, labels = _validation_predictions(runs)
        return fit_stacking(members, labels)
    if rule == "confidence":
        members = _test_probabilities(runs)
        mean_shares = confidence_shares(members).mean(1)
        return Combination(mean_shares, by_confidence=True)
    return Combination(member_weights(rule, runs))


def _check_stackable(num_members: int, *, num_classes: int) -> None:
    """Raises ConfigError if the layer would have more numbers than a file of results can hold."""
    count = num_members * num_classes**2
    if count > MAX_STACKED:
        raise ConfigError(
            f"--weights=stacked fits {count:,} numbers for {num_members} members of "
            f"{num_classes:,} classes, more than {MAX_STACKED:,}: take --weights=fitted."
        )


def _test_probabilities(runs: Sequence[RunFolder]) -> np.ndarray:
    """Returns the runs' probabilities on the test set [M, N, K]."""
    members = []
    for run in runs:
        probabilities, _ = run.predictions
        members.append(probabilities)
    return np.stack(members)


def member_weights(rule: str, runs: Sequence[RunFolder]) -> np.ndarray:
    """Returns the weights [M] of the runs under a rule of soft voting.

    rule: equal; fitted or greedy on the runs' validation set; or numbers, as in "2,1".

    Raises ConfigError for any other rule, RunError if there is no common validation set.
    """
    weights = parse_weights(rule, len(runs))
    if weights is not None:
        return weights
    members, labels = _validation_predictions(runs)
    if rule == "fitted":
        return fit_weights(members, labels)
    return greedy_weights(members, labels)


def parse_weights(rule: str, num_members: int) -> np.ndarray | None:
    """Returns the weights [M] of a rule that needs no predictions, None for a rule that does.

    Raises ConfigError if it is not a rule.
    """
    if rule == "equal":
        return equal_weights(num_members)
    if rule in RULES:
        return None
    weights = _numbers(rule)
    if len(weights) != num_members or not _are_weights(weights):
        example = ",".join(["1"] * num_members)
        raise ConfigError(
            f"weights are {rule!r}: give {', '.join(RULES)}, or a number of 0 or more for each of "
            f"the {num_members} members, as in {example}."
        )
    return weights / weights.sum()


def _numbers(text: str) -> np.ndarray:
    """Returns the comma-separated numbers, or none if it is not only numbers."""
    try:
        return np.array([float(number) for number in text.split(",")])
    except ValueError:
        return np.empty(0)


def _are_weights(numbers: np.ndarray) -> bool:
    if (numbers < 0).any():
        return False
    return bool(0 < numbers.sum() < np.inf)


def _validation_predictions(runs: Sequence[RunFolder]) -> Predictions:
    """Returns the runs' probabilities on their common validation set [M, N, K], and its labels.

    Raises RunError if they have none in common.
    """
    predictions = [calibration.require_validation_predictions(run) for run in runs]
    first = runs[0]
    for run in runs:
        if _split_fingerprint(run, "validation") != _split_fingerprint(first, "validation"):
            raise RunError(
                f"{first.path} and {run.path} have different validation sets, so weights cannot be "
                "fitted on them. Train them with the same config.data.validation_size and "
                "config.data.split_seed, or take --weights=equal."
            )
    members = np.stack([probabilities for probabilities, _ in predictions])
    _, labels = predictions[0]
    return members, labels


def _split_fingerprint(run: RunFolder, split: str) -> str:
    return run.data["splits"][split]["fingerprint"]


def check_compatible(runs: Sequence[RunFolder]) -> None:
    """Raises RunError if the runs cannot vote together.

    They need the same classes and the same test set; each must be tested and given only once.
    """
    if len(runs) < 2:
        raise RunError(
            "An ensemble takes two runs or more: python -m imgcls_jax ensemble runs/ONE runs/OTHER."
        )
    first = runs[0]
    paths = [run.path.resolve() for run in runs]
    for run, path in zip(runs, paths, strict=True):
        _require_tested(run)
        if paths.count(path) > 1:
            raise RunError(
                f"{run.path} is given twice. Weights say how much a member counts: --weights=2,1."
            )
        if run.data["class_names"] != first.data["class_names"]:
            raise RunError(
                f"{run.path} has classes other than {first.path}: they cannot vote together."
            )
        if _split_fingerprint(run, "test") != _split_fingerprint(first, "test"):
            raise RunError(
                f"{run.path} has a test set other than {first.path}: they cannot vote together."
            )
        check_shape(run)


def _require_tested(run: RunFolder) -> None:
    """Raises RunError if the run has no test figures yet."""
    run.read_json(TEST)


def check_shape(run: RunFolder) -> None:
    """Raises RunError if the run's predictions are not of its whole test set."""
    data = run.data
    num_examples = data["splits"]["test"]["examples"]
    expected = num_examples, len(data["class_names"])
    shape = run.predictions[0].shape
    if shape != expected:
        raise RunError(f"{run.path}: its predictions are {shape}, of its test set {expected}.")


def fingerprint(run: RunFolder) -> str:
    """Returns a SHA-256 of the run's test predictions, which identify its weights."""
    probabilities, labels = run.predictions
    header = probabilities.shape, run.data["class_names"]
    digest = hashlib.sha256(repr(header).encode())
    digest.update(np.ascontiguousarray(probabilities, "<f4"))
    digest.update(np.ascontiguousarray(labels, "<i4"))
    return digest.hexdigest()


def vote(
    runs: Sequence[RunFolder],
    rule: str,
    home: Path = Path(),
) -> tuple[np.ndarray, Predictions | None, dict[str, Any]]:
    """Lets the runs vote on the test set.

    home: the ensemble's folder.

    Returns the ensemble's probabilities on the test set; its (probabilities, labels) on the
    validation set, those of stacking from layers that were not fitted to the image, or None if the
    runs have none in common; and a summary, ready for JSON:
      rule: as given.
      test_fingerprint: of the test set.
      members: run (its path relative to `home`), fingerprint, weight, accuracy, loss, parameters,
        and `against`, the ensemble compared with it (evaluation/paired.py).
      test: the ensemble's scores.
      oracle: share of the test images that at least one member gets right.
      disagreement: [M, M], share of the test images on which two members differ.
      mutual_information: between prediction and member, in nats: its mean where the ensemble is
        right and where it is wrong.
      rejection: rejection curves by that and by entropy.
      soft_voting: accuracy, loss and `against` of the mean with equal weights, unless that is
        the rule.
      and what `Combination.from_json` needs.

    Raises RunError if the runs cannot vote together, ConfigError if there is no such rule.
    """
    check_compatible(runs)
    combination = fit_combination(rule, runs)
    members = _test_probabilities(runs)
    _, labels = runs[0].predictions
    class_names = runs[0].data["class_names"]
    probabilities = combination(members)
    correct = probabilities.argmax(-1) == labels
    predicted = members.argmax(-1)
    members_correct = predicted == labels
    entropies = calibration.entropy(probabilities)
    information = calibration.mutual_information(members, combination.weights)
    member_summaries = []
    for run, weight, member_correct in zip(runs, combination.weights, members_correct, strict=True):
        against = paired.compare(correct, member_correct)
        member_summary = _member_summary(run, float(weight), against, home=home)
        member_summaries.append(member_summary)
    summary = {
        "rule": rule,
        "test_fingerprint": _split_fingerprint(runs[0], "test"),
        "members": member_summaries,
        "test": _score(probabilities, labels, class_names),
        "oracle": float(members_correct.any(0).mean()),
        "disagreement": _disagreement(predicted),
        "mutual_information": calibration.mean_where_right_and_wrong(information, correct),
        "rejection": {
            "entropy": calibration.rejection_curve(entropies, correct),
            "mutual_information": calibration.rejection_curve(information, correct),
        },
        **combination.to_json(),
    }
    if rule != "equal":
        summary["soft_voting"] = _soft_voting_summary(members, labels, class_names, correct)
    return probabilities, _voted_validation(runs, combination), summary


def _score(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
) -> dict[str, Any]:
    return score(calibration.log_probabilities(probabilities), labels, class_names)


def _member_summary(
    run: RunFolder,
    weight: float,
    against: dict[str, Any],
    *,
    home: Path,
) -> dict[str, Any]:
    test = run.test
    return {
        "run": path_from(home, run),
        "fingerprint": fingerprint(run),
        "weight": weight,
        "accuracy": test["accuracy"],
        "loss": test["loss"],
        "parameters": test["parameters"],
        "against": against,
    }


def _disagreement(predicted: np.ndarray) -> list[list[float]]:
    """Returns how often each two members differ; `predicted`: int [M, N]."""
    differs = predicted[:, None] != predicted[None, :]
    return differs.mean(-1).tolist()


def _soft_voting_summary(
    members: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    ensemble_correct: np.ndarray,
) -> dict[str, Any]:
    probabilities = weighted_mean(members, equal_weights(len(members)))
    scores = _score(probabilities, labels, class_names)
    correct = probabilities.argmax(-1) == labels
    return {
        "accuracy": scores["accuracy"],
        "loss": scores["loss"],
        "against": paired.compare(ensemble_correct, correct),
    }


def _voted_validation(
    runs: Sequence[RunFolder],
    combination: Combination,
) -> Predictions | None:
    try:
        members, labels = _validation_predictions(runs)
    except RunError:
        return None
    if combination.kernel is None:
        return combination(members), labels
    if len(labels) < 2:
        return None
    return cross_fitted_stacking(members, labels), labels


class EnsemblePredictor:
    """A `classifiers.Classifier` from the folder of an ensemble and the folders of its members.

    batch_size: images at a time; None for the least of the members' own.

    Raises RunError if a member's folder is missing, or holds another run than the one that voted.
    """

    def __init__(self, run: EnsembleFolder, *, batch_size: int | None = None):
        summary = run.summary  # of stacking it may be large: read once
        voting = voters(summary)
        if not voting:
            raise RunError(
                f"{run.path / ENSEMBLE} names no member that counts: make the ensemble again."
            )
        self.name = run.name
        folders = [_member_folder(run, member) for member in voting]
        self.members = [Predictor(folder, batch_size=batch_size) for folder in folders]
        first = self.members[0]
        for folder, member in zip(folders, self.members, strict=True):
            if (member.class_names, member.shape) != (first.class_names, first.shape):
                raise RunError(
                    f"{folder.path} has other classes or images than {folders[0].path}: they "
                    f"cannot vote together as {run.path}."
                )
        weights = np.array([member["weight"] for member in voting])
        num_classes = len(first.class_names)
        self.combination = _combination(run, weights, summary, num_classes=num_classes)
        self.class_names = first.class_names
        self.shape = first.shape
        self.reader = first.reader
        self.batch_size = min(member.batch_size for member in self.members)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities float64 [N, K] of images uint8 [N, H, W, C]."""
        members = [member.probabilities(images) for member in self.members]
        return self.combination(np.stack(members))


def _combination(
    run: EnsembleFolder, weights: np.ndarray, summary: Mapping[str, Any], *, num_classes: int
) -> Combination:
    """Returns the rule of ensemble.json. Raises RunError if it is not of these members."""
    try:
        return Combination.from_json(weights, summary, num_classes=num_classes)
    except ValueError as error:
        raise RunError(f"{run.path / ENSEMBLE} is damaged ({error}): {MAKE_AGAIN}") from error


def _member_folder(run: RunFolder, member: Mapping[str, Any]) -> RunFolder:
    """Returns the folder of a member of the ensemble `run`, checked to be the run that voted.

    Raises RunError if it is not, or is missing.
    """
    if "fingerprint" not in member:
        raise RunError(
            f"{run.path / ENSEMBLE} is of an older version, which did not keep where its members "
            f"are: {MAKE_AGAIN}"
        )
    path = os.path.normpath(run.path / member["run"])
    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise RunError(
            f"{folder.path}, a member of {run.path}, is missing. Put it back, or {MAKE_AGAIN}"
        )
    if fingerprint(folder) != member["fingerprint"]:
        raise RunError(
            f"{folder.path} is another run than the member of {run.path} that voted. Put that "
            f"back, or {MAKE_AGAIN}"
        )
    return folder
