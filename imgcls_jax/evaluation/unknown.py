"""What a run does not know: a flag for strange images, and sets of classes that cover the true one.

Both are fitted on the run's validation images alone, and measured on its test images.
"""

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgcls_jax import files, foreign
from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import conformal, strangeness
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.evaluation.strangeness import SCORES, STRANGE, Neighbours, Outputs
from imgcls_jax.run.folder import UNKNOWN, UNKNOWN_FEATURES, RunFolder

MOST_IMAGES = 10_000  # of the validation set that are taken, at random
MOST_STRANGE = 1000  # images of each kind that are made to choose a score
SHOWN = 24  # strangest test images that the page shows


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a run says of N images.

    probabilities: float64 [N, K]. strangeness: float64 [N]. is_unknown: bool [N], whether the
    strangeness is above the threshold. sets: bool [N, K], whether each class is in an image's set.
    """

    probabilities: np.ndarray
    strangeness: np.ndarray
    is_unknown: np.ndarray
    sets: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rule:
    """How outputs are judged.

    score: one of SCORES. threshold: of the score, above which an image is unknown. mass: as `most`
    of `conformal.sets`. neighbours: of the score "nearest", and None for the others.
    """

    score: str
    threshold: float
    mass: float
    neighbours: Neighbours | None = None

    def judge(self, outputs: Outputs) -> Judgement:
        probabilities = softmax(outputs.logits)
        scores = strangeness.score(self.score, outputs, self.neighbours)
        return Judgement(
            probabilities=probabilities,
            strangeness=scores,
            is_unknown=scores > self.threshold,
            sets=conformal.sets(probabilities, self.mass),
        )


class CautiousPredictor(Predictor):
    """A `Predictor` that also judges images, as unknown.json in the run's folder says.

    Raises RunError if the run has no such file, or one of other weights or damaged.
    """

    def __init__(self, run: RunFolder, *, batch_size: int | None = None):
        super().__init__(run, batch_size=batch_size)
        self._rule = _read_rule(run)
        self._file = run.path / UNKNOWN_FEATURES
        self._remedy = fit_again(run)
        step = run.read_json(UNKNOWN)["step"]
        if step != self.step:
            raise RunError(
                f"{run.path / UNKNOWN} was fitted to the weights of step {step:,}, and the best "
                f"ones are those of step {self.step:,}: {self._remedy}"
            )

    def judge(self, images: np.ndarray) -> Judgement:
        """Judges images uint8 [N, H, W, C]. Raises RunError if the logits are not finite."""
        outputs = self.outputs(images)
        neighbours = self._rule.neighbours
        if neighbours:
            _, expected = outputs.features.shape
            _, width = neighbours.features.shape
            if width != expected:
                raise RunError(f"{self._file} has features of another model: {self._remedy}")
        return self._rule.judge(outputs)


def fit_again(run: RunFolder) -> str:
    return f"imgcls unknown {run.path} fits it again."


def _read_rule(run: RunFolder) -> Rule:
    content = run.read_json(UNKNOWN)
    rule = Rule(
        score=content["score"],
        threshold=content["threshold"],
        mass=content["mass"],
    )
    if rule.score != "nearest":
        return rule
    return dataclasses.replace(rule, neighbours=_read_neighbours(run))


def _read_neighbours(run: RunFolder) -> Neighbours:
    file = run.path / UNKNOWN_FEATURES
    if not file.exists():
        raise RunError(f"{file} is missing, which {UNKNOWN} needs: {fit_again(run)}")
    try:
        with foreign.open_npz(file) as arrays:
            features = arrays["features"]
        num_features, _ = features.shape
        if num_features < 2 or features.dtype != np.float16:
            raise ValueError("it should hold features float16 [M, F]")
        if not np.isfinite(features).all():
            raise ValueError("its features are not finite")
    except Exception as error:  # a damaged file can raise nearly anything
        raise RunError(f"{file} is damaged ({error}): {fit_again(run)}") from error
    return Neighbours(features)


def check(run: RunFolder, *, coverage: float, false_alarms: float) -> None:
    """Raises RunError for shares that are none, or that take more validation images than there are."""
    _check_share("coverage", coverage)
    _check_share("false-alarms", false_alarms)
    splits = run.data["splits"]
    if "validation" not in splits:
        raise RunError(f"{run.path} has no validation images, on which this could be fitted.")
    count = min(splits["validation"]["examples"], MOST_IMAGES)
    _check_count(run, count, f"--coverage={coverage:g}", coverage, remedy="a lower")
    _check_count(
        run, count, f"--false-alarms={false_alarms:g}", 1 - false_alarms, remedy="a higher"
    )


def _check_share(option: str, share: float) -> None:
    if not 0 < share < 1:
        raise RunError(f"--{option} is {share:g}. Give a share between 0 and 1, such as 0.1.")


def _check_count(
    run: RunFolder,
    count: int,
    option: str,
    level: float,
    *,
    remedy: str,
) -> None:
    """Raises RunError if the quantile at this level takes more than `count` images."""
    fewest = conformal.fewest_examples(level)
    if count < fewest:
        raise RunError(
            f"{option} takes {fewest:,} validation images, and {run.path} has {count:,} that are "
            f"used. Give {remedy} share, or train with a larger data.validation_size."
        )


def fit(
    run: RunFolder,
    data: Splits,
    *,
    coverage: float,
    false_alarms: float,
) -> dict[str, Any]:
    """Fits unknown.json of a tested run, and writes it; returns its content.

    Args:
      run: a run with its checkpoints.
      data: of the run. The rule is fitted on the validation images, and measured on the test ones.
      coverage: how often the set of classes of an image is to contain the true one.
      false_alarms: the share of images like the run's that are to be called unknown, at most.

    Raises RunError as `check` does.
    """
    check(run, coverage=coverage, false_alarms=false_alarms)
    predictor = Predictor(run)
    validation = data.validation.sample(MOST_IMAGES)
    outputs = predictor.outputs(validation.images)
    usual = _Usual(outputs)
    candidates = _compare(predictor, validation, usual)
    chosen = max(SCORES, key=lambda name: candidates[name]["mean"])
    rule = Rule(
        score=chosen,
        threshold=conformal.quantile(usual.scores[chosen], 1 - false_alarms),
        mass=conformal.fit(softmax(outputs.logits), validation.labels, coverage),
        neighbours=usual.neighbours,
    )
    test_judgement = rule.judge(predictor.outputs(data.test.images))
    content = {
        "score": rule.score,
        "threshold": rule.threshold,
        "false_alarms": false_alarms,
        "mass": rule.mass,
        "coverage": coverage,
        "step": predictor.step,
        "validation_examples": len(validation),
        "candidates": candidates,
        "test": measure(test_judgement, data.test.labels),
    }
    _write(run, rule, content)
    return content


def _write(run: RunFolder, rule: Rule, content: Mapping[str, Any]) -> None:
    """Writes unknown.json, and the neighbours if the rule needs them."""
    file = run.path / UNKNOWN_FEATURES
    if rule.score == "nearest":
        files.write_npz(file, features=rule.neighbours.features)
        run.write_json(UNKNOWN, content)
    else:
        run.write_json(UNKNOWN, content)
        file.unlink(missing_ok=True)


class _Usual:
    """The validation images, as neighbours of others, and each score of them, float64 [N]."""

    def __init__(self, outputs: Outputs):
        self.neighbours = Neighbours(outputs.features)
        self.scores = {}
        for name in SCORES:
            self.scores[name] = strangeness.score(
                name, outputs, self.neighbours, are_neighbours=True
            )


def _compare(
    predictor: Predictor,
    validation: Dataset,
    usual: _Usual,
) -> dict[str, dict[str, float]]:
    """Returns how well each score tells each kind of strange images from the validation images.

    The figure is the AUROC; "mean" is that over the kinds.
    """
    sources = validation.sample(MOST_STRANGE).in_memory()
    aurocs: dict[str, dict[str, float]] = {}
    for name in SCORES:
        aurocs[name] = {}
    for kind, make in STRANGE.items():
        rng = np.random.default_rng(0)
        images = make(sources.images, sources.labels, rng)
        if not len(images):
            continue
        outputs = predictor.outputs(images)
        for name, usual_scores in usual.scores.items():
            scores = strangeness.score(name, outputs, usual.neighbours)
            aurocs[name][kind] = strangeness.auroc(usual_scores, scores)
    for by_kind in aurocs.values():
        by_kind["mean"] = statistics.mean(by_kind.values())
    return aurocs


def measure(judgement: Judgement, labels: np.ndarray) -> dict[str, Any]:
    """Returns how the judgement of test images agrees with their labels int [N], ready for JSON.

    coverage and false_alarms are shares with their 95 % intervals (Wilson, 1927); accuracies are
    those of the most probable class, None where there is no image.
    """
    examples = np.arange(len(labels))
    is_covered = judgement.sets[examples, labels]
    is_correct = judgement.probabilities.argmax(-1) == labels
    sizes = judgement.sets.sum(-1)
    rows = []
    for size in np.unique(sizes):
        of_size = sizes == size
        row = {
            "classes": int(size),
            "images": int(of_size.sum()),
            "accuracy": _mean(is_correct[of_size]),
            "coverage": _mean(is_covered[of_size]),
        }
        rows.append(row)
    strangest_first = np.argsort(-judgement.strangeness, kind="stable")
    return {
        "examples": len(labels),
        "coverage": _share(is_covered),
        "false_alarms": _share(judgement.is_unknown),
        "accuracy_unknown": _mean(is_correct[judgement.is_unknown]),
        "accuracy_others": _mean(is_correct[~judgement.is_unknown]),
        "sizes": rows,
        "strangest": strangest_first[:SHOWN].tolist(),
    }


def _share(values: np.ndarray) -> dict[str, float]:
    """Returns the share of true values, bool [N] with N > 0, and its 95 % interval."""
    from scipy.stats import binomtest

    test = binomtest(int(values.sum()), len(values))
    interval = test.proportion_ci(method="wilson")
    return {
        "share": float(values.mean()),
        "low": float(interval.low),
        "high": float(interval.high),
    }


def _mean(values: np.ndarray) -> float | None:
    if not len(values):
        return None
    return float(values.mean())
