"""Computes every published figure again from the published predictions and labels."""

import csv
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from imgcls_jax import data
from imgcls_jax.data.dataset import Dataset, sample_indices
from imgcls_jax.errors import DataError, RunError
from imgcls_jax.evaluation import calibration, ensemble, robustness
from imgcls_jax.evaluation.scores import score
from imgcls_jax.reporting import reproduction
from imgcls_jax.reporting.checks import EXACT, Check, Figures, compare, require_all
from imgcls_jax.reporting.compare_rows import Group, summarize
from imgcls_jax.run.folder import (
    CALIBRATION,
    ENSEMBLE,
    EXPLANATION,
    ROBUSTNESS,
    TEST,
    Predictions,
    RunFolder,
)
from imgcls_jax.run.publish import COMPARISON

STUDY_TABLE = "table.csv"
# Of a study's table: what its runs alone give. Its costs were measured.
COLUMNS = (
    "seeds",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "loss",
    "gap",
    "parameters",
    "trainable",
    "seconds_per_epoch",
    "epochs",
    "train_seconds",
)
# Predictions are published in float16, which changes a probability by up to 2**-12. A mean of
# them, such as a calibration error, changes by no more. Where the most uncertain images are left
# out, so few change places that accuracies on the others do not change by more either.
HALF_PRECISION = 2**-11
# Losses were computed from logits, and those of validation while training. Of a reliability
# diagram: one image in a thousand has a confidence so near to a bin's edge that it is rounded
# into the next bin.
ROUNDED = 2e-3
# Nats by which a label may be less probable than its stored probability of 0 says.
UNSEEN = 70.0


def verify(folder: Path, readme: Path) -> str:
    """Computes every figure in `folder` again and returns a summary of one or two sentences.

    Figures of runs are computed from their predictions and labels, those of ensembles from their
    members if these are published too, and tables from the runs. Labels are compared with those of
    the data sets that can be read here. Raises RunError, with their names, if figures differ.
    """
    runs = [RunFolder(file.parent) for file in sorted(folder.rglob(TEST))]
    ensembles = [RunFolder(file.parent) for file in sorted(folder.rglob(ENSEMBLE))]
    tables = sorted(folder.rglob(STUDY_TABLE))
    if not runs:
        raise RunError(
            f"{folder} holds no published run: give the folder of the published results."
        )
    checks = []
    for run in runs:
        checks += of_run(run)
    for run in ensembles:
        checks += of_ensemble(run, folder)
    for table in tables:
        checks += of_table(table, folder)
    checks += of_reproduction(folder, readme)
    labels = _Labels()
    for run in runs:
        checks += labels.of_run(run)
    require_all(checks)
    return (
        f"{len(runs)} runs, {len(ensembles)} ensembles, {len(tables)} tables: {len(checks):,} "
        "figures computed again from predictions and labels, none differs. "
        f"The labels of {len(runs) - labels.unread_runs} runs are those of their data"
        f"{labels.unread()}."
    )


def of_run(run: RunFolder) -> Iterator[Check]:
    """Checks the figures of test.json, calibration.json, robustness.json and explain.json."""
    yield from _of_test(run)
    validation = run.validation_predictions
    if validation is not None:
        yield from _of_validation(run, validation)
        if (run.path / CALIBRATION).exists():
            yield from _of_calibration(run, validation)
    if (run.path / ROBUSTNESS).exists():
        yield _of_robustness(run)
    if (run.path / EXPLANATION).exists():
        yield from _of_explanation(run)


def of_ensemble(run: RunFolder, folder: Path) -> Iterator[Check]:
    """Checks the figures of ensemble.json; all of them if its members are published in `folder`."""
    where = f"{run.path}/{ENSEMBLE}"
    published = run.read_json(ENSEMBLE)
    class_names = [row["name"] for row in published["test"]["per_class"]]
    yield from _of_scores(published["test"], run.predictions, class_names, f"{where} test")
    members = [RunFolder(_published(member["run"], folder)) for member in published["members"]]
    if all((member.path / TEST).exists() for member in members):
        voted, _, again = ensemble.vote(members, published["rule"])
        probabilities, _ = run.predictions
        distance = float(np.abs(voted - probabilities).max())
        yield Check(f"{where} its predictions from its members'", 0.0, distance, HALF_PRECISION)
        yield from _of_vote(published, again, where)
    validation = run.validation_predictions
    if validation is not None and (run.path / CALIBRATION).exists():
        yield from _of_calibration(run, validation)


def of_table(table: Path, folder: Path) -> Iterator[Check]:
    """Checks the columns of a table that its runs give: those of a study or of a comparison.

    A comparison's rows are left out whose runs are not published in `folder`.
    """
    with open(table, newline="") as lines:
        rows = list(csv.DictReader(lines))
    systems = None
    if table.with_name(COMPARISON).exists():
        systems = RunFolder(table.parent).read_json(COMPARISON)["systems"]
    for row in rows:
        if systems is None:
            runs = reproduction.runs_at(table.parent / row["label"])
        else:
            runs = _compared_runs(systems[row["label"]], folder)
            if not runs:
                continue
        (again,) = summarize([Group(row["label"], {}, runs)])
        figures = dataclasses.asdict(again)
        for column in COLUMNS:
            if column not in row:  # older versions had another interval
                continue
            where = f"{table} {row['label']} {column}"
            published = _figure(row[column])
            yield Check(where, published, _figure(figures[column]), EXACT)


def _compared_runs(paths: Sequence[str], folder: Path) -> list[RunFolder]:
    """Returns the runs of a comparison's row; none if not all are published in `folder`."""
    found = [reproduction.runs_at(_published(path, folder)) for path in paths]
    if not all(found):
        return []
    return list(itertools.chain(*found))


def _published(path: str, folder: Path) -> Path:
    """Returns where a run is published in `folder` that is at `path` from a folder of runs."""
    above = ("..", "runs", folder.resolve().name)
    names = itertools.dropwhile(above.__contains__, Path(path).parts)
    return folder.joinpath(*names)


def of_reproduction(folder: Path, readme: Path) -> list[Check]:
    """Checks the table of all rows of the reports, and the one in the project's README."""
    if not (folder / reproduction.SYSTEMS).exists():
        return []
    table, short_table = reproduction.render(folder)
    file = folder / reproduction.TABLE
    return [
        Check(str(file), _hash(file.read_text()), _hash(table), EXACT),
        Check(str(readme), _hash(reproduction.between(readme)), _hash(short_table), EXACT),
    ]


class _Labels:
    """Compares the labels of runs with those of their data, which are read once."""

    def __init__(self):
        self.unread_runs = 0
        self._splits: dict[str, data.Splits | None] = {}  # by the config of the data, as JSON

    def of_run(self, run: RunFolder) -> Iterator[Check]:
        """Checks the labels of a run; counts it as unread if its data cannot be read here."""
        splits = self._read(run)
        if splits is None:
            self.unread_runs += 1
            return
        fingerprint = splits.report["fingerprint"]
        yield Check(f"{run.path} fingerprint", run.data["fingerprint"], fingerprint, EXACT)
        yield from _of_labels(run, "test", run.predictions, splits.test)
        validation = run.validation_predictions
        if validation is not None:
            yield from _of_labels(run, "validation", validation, splits.validation)

    def unread(self) -> str:
        """The end of a sentence about the data sets that cannot be read here."""
        if not self.unread_runs:
            return ""
        names = set()
        for key, splits in self._splits.items():
            if splits is None:
                names.add(json.loads(key)["name"])
        return f"; {', '.join(sorted(names))}, of {self.unread_runs} runs, cannot be read here"

    def _read(self, run: RunFolder) -> data.Splits | None:
        config = run.config.data
        key = json.dumps(config.to_dict(), sort_keys=True)
        if key not in self._splits:
            try:
                self._splits[key] = data.load(config)
            except DataError:
                self._splits[key] = None
        return self._splits[key]


def _of_test(run: RunFolder) -> Iterator[Check]:
    where = f"{run.path}/{TEST}"
    test = run.test
    history = run.history
    yield from _of_scores(test, run.predictions, run.data["class_names"], where)
    by_step = {line["step"]: line for line in reversed(history)}
    best = by_step.get(test["best_step"], {})
    again = {
        "epochs": len(history),
        "best_epoch": best.get("epoch"),
        "train_accuracy": best.get("train_accuracy"),  # older versions did not write it
    }
    for key, value in again.items():
        if key in test:
            yield Check(f"{where} {key}", test[key], value, EXACT)


def _of_scores(
    published: Figures, predictions: Predictions, class_names: Sequence[str], where: str
) -> Iterator[Check]:
    probabilities, labels = predictions
    again = score(calibration.log_probabilities(probabilities), labels, class_names)
    loss = again.pop("loss")
    yield Check(f"{where} loss", published["loss"], loss, _tolerance_of_loss(predictions))
    yield from compare(published, again, where)


def _of_validation(run: RunFolder, validation: Predictions) -> Iterator[Check]:
    where = f"{run.path}/{TEST}"
    figures = calibration.metrics(*validation)
    accuracy = run.test.get("validation_accuracy")
    loss = run.test.get("validation_loss")
    tolerance = _tolerance_of_loss(validation)
    yield Check(f"{where} validation_accuracy", accuracy, figures["accuracy"], ROUNDED)
    yield Check(f"{where} validation_loss", loss, figures["nll"], tolerance)


def _tolerance_of_loss(predictions: Predictions) -> float:
    """Returns by how much a mean loss may change where predictions are rounded."""
    probabilities, labels = predictions
    of_labels = probabilities[np.arange(len(labels)), labels]
    return ROUNDED + UNSEEN * float((of_labels == 0).mean())


def _of_calibration(run: RunFolder, validation: Predictions) -> Iterator[Check]:
    where = f"{run.path}/{CALIBRATION}"
    published = run.read_json(CALIBRATION)
    again = calibration.calibrate(validation, run.predictions)
    for key in ("as_trained", "scaled"):
        yield from _of_confidences(published[key], again.pop(key), f"{where} {key}")
    for key in ("p", "low", "high", "validation_examples"):
        if key not in published:  # older versions did not write it
            del again[key]
    if "p" in again:
        _, labels = validation
        p = again.pop("p")
        yield Check(f"{where} p", published["p"], p, _tolerance_of_p(p, len(labels)))
    yield from compare(published, again, where, tolerance=HALF_PRECISION)


def _tolerance_of_p(p: float, examples: int) -> float:
    """Returns by how much the p-value of a temperature may change where predictions are rounded.

    The roundings of the examples are independent of each other, so that their mean, and with it the
    gain in mean log-likelihood that p follows from, changes by less, the more examples there are.
    """
    gain = calibration.gain_of_p(p, examples)
    change = HALF_PRECISION / math.sqrt(examples)
    low = calibration.likelihood_ratio_test(gain + change, examples)
    high = calibration.likelihood_ratio_test(gain - change, examples)
    return max(HALF_PRECISION, high - low)


def _of_confidences(published: Figures, again: Figures, where: str) -> Iterator[Check]:
    yield Check(f"{where} accuracy", published["accuracy"], again["accuracy"], EXACT)
    for key in ("ece", "brier", "nll"):
        yield Check(f"{where} {key}", published[key], again[key], HALF_PRECISION)
    bins = _bin_shares(published["reliability"])
    bins_again = _bin_shares(again["reliability"])
    yield from compare(bins, bins_again, f"{where} reliability", tolerance=ROUNDED)


def _bin_shares(reliability: Sequence[Figures]) -> list[dict[str, float]]:
    """What each bin contributes to means over all images: an image counts as much in every bin."""
    total = sum(row["examples"] for row in reliability)
    by_bin = {row["bin"]: row for row in reliability}
    empty = {"examples": 0, "confidence": 0.0, "accuracy": 0.0}
    shares = []
    for number in range(calibration.NUM_BINS):
        row = by_bin.get(number, empty)
        share = row["examples"] / total
        shares.append(
            {
                "examples": share,
                "confidence": share * row["confidence"],
                "accuracy": share * row["accuracy"],
            }
        )
    return shares


def _of_robustness(run: RunFolder) -> Check:
    published = run.read_json(ROBUSTNESS)
    probabilities, labels = run.predictions
    is_right = probabilities.argmax(axis=-1) == labels
    indices = np.arange(published["examples"])
    if published.get("chosen") == robustness.AT_RANDOM:
        indices = sample_indices(len(is_right), published["examples"])
    clean = float(is_right[indices].mean())
    return Check(f"{run.path}/{ROBUSTNESS} clean", published["clean"], clean, ROUNDED)


def _of_explanation(run: RunFolder) -> Iterator[Check]:
    probabilities, labels = run.predictions
    for example in run.read_json(EXPLANATION)["examples"]:
        index = example["index"]
        again = {
            "label": int(labels[index]),
            "prediction": int(probabilities[index].argmax()),
            "confidence": float(probabilities[index].max()),
        }
        where = f"{run.path}/{EXPLANATION} example {index}"
        yield from compare(example, again, where, tolerance=HALF_PRECISION)


def _of_vote(published: Figures, again: Figures, where: str) -> Iterator[Check]:
    """Checks what the members' predictions give, but for the scores of the ensemble itself."""
    for key in ("oracle", "disagreement"):
        yield from compare(published[key], again[key], f"{where} {key}")
    again = dict(again)
    for key in ("test", "test_fingerprint", "oracle", "disagreement"):
        del again[key]
    for member in again["members"]:
        del member["run"]  # where it was when it voted
        del member["fingerprint"]  # of predictions that were not rounded
    yield from compare(published, again, where, tolerance=HALF_PRECISION)


def _of_labels(
    run: RunFolder, split: str, predictions: Predictions, dataset: Dataset
) -> Iterator[Check]:
    _, labels = predictions
    is_same = np.array_equal(labels, dataset.labels)
    yield Check(f"{run.path} labels of the {split} set are the data's", True, is_same, EXACT)


def _figure(value: str | float | None) -> float | None:
    if value in ("", None):
        return None
    return float(value)


def _hash(text: str) -> str:
    """A text in an error."""
    return f"a table of SHA-256 {hashlib.sha256(text.strip().encode()).hexdigest()[:12]}"
