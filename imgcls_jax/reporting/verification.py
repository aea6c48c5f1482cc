"""Whether published figures are what their predictions and labels give: all of them are computed again and compared."""

import csv
import dataclasses
import glob
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import data
from imgcls_jax.errors import DataError, RunError
from imgcls_jax.evaluation import calibration, ensemble
from imgcls_jax.evaluation.scores import score
from imgcls_jax.reporting import compare, reproduction
from imgcls_jax.run.folder import CALIBRATION, ENSEMBLE, EXPLANATION, ROBUSTNESS, TEST, RunFolder

STUDY_TABLE = "table.csv"
# Of a study's table: what runs alone give. Its costs were measured.
COLUMNS = (
    *("seeds", "accuracy", "accuracy_margin", "loss", "gap", "parameters", "trainable"),
    *("seconds_per_epoch", "epochs", "train_seconds"),
)
EXACT = 1e-9
# Predictions are kept to the 24th binary place; losses were computed from logits, validation's while training.
ROUNDED = 2e-3
UNSEEN = (
    70.0  # nats that a label may be less probable than its stored probability of 0 says, in float32
)
FITTED = 1e-4  # what an optimizer finds
MOST_NAMED = 20


@dataclasses.dataclass
class Check:
    """A published figure, and the same computed again."""

    where: str
    published: Any
    again: Any
    tolerance: float

    @property
    def holds(self) -> bool:
        if not isinstance(self.again, float) or not isinstance(self.published, int | float):
            return self.published == self.again
        return math.isclose(
            self.published, self.again, rel_tol=self.tolerance, abs_tol=self.tolerance
        )


def verify(folder: Path, readme: Path) -> str:
    """Computes every figure below `folder` again; returns what was found, in a sentence.

    Figures of runs come from their predictions and labels, of ensembles from their members' where these are published
    too, of tables from the runs. Labels are compared with the data sets' own, where those can be read here. Raises
    RunError that names the figures that differ.
    """
    runs = [RunFolder(file.parent) for file in sorted(folder.rglob(TEST))]
    ensembles = [RunFolder(file.parent) for file in sorted(folder.rglob(ENSEMBLE))]
    tables = sorted(folder.rglob(STUDY_TABLE))
    if not runs:
        raise RunError(
            f"{folder} holds no published run: give the folder of the published results."
        )
    checks = [check for run in runs for check in of_run(run)]
    checks += [check for run in ensembles for check in of_ensemble(run, folder)]
    checks += [check for table in tables for check in of_table(table)]
    checks += of_reproduction(folder, readme)
    known: dict[str, data.Splits | None] = {}
    read = [_labels(run, known) for run in runs]
    checks += [check for labels in read for check in labels or ()]
    wrong = [check for check in checks if not check.holds]
    if wrong:
        lines = [
            f"  {check.where}: {check.published} published, {check.again} now"
            for check in wrong[:MOST_NAMED]
        ]
        more = f"\n  and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise RunError(
            f"{len(wrong):,} of {len(checks):,} figures differ:\n" + "\n".join(lines) + more
        )
    compared = sum(labels is not None for labels in read)
    return (
        f"{len(runs)} runs, {len(ensembles)} ensembles, {len(tables)} tables: {len(checks):,} figures computed again "
        f"from predictions and labels, none differs. The labels of {compared} runs are those of their data"
        f"{_absent(known, len(runs) - compared)}."
    )


def of_run(run: RunFolder) -> Iterator[Check]:
    """The figures of test.json, calibration.json, robustness.json and explain.json."""
    at, (probabilities, labels), test = str(run.path), run.predictions, run.test
    yield from _scores(test, run.predictions, run.data["class_names"], f"{at}/{TEST}")
    history = run.history
    kept = next((line for line in history if line["step"] == test["best_step"]), {})
    summary = {
        "epochs": len(history),
        "best_epoch": kept.get("epoch"),
        "train_accuracy": kept.get("train_accuracy"),
    }
    there = {
        key: figure for key, figure in summary.items() if key in test
    }  # versions before had no train_accuracy
    yield from _compare(test, there, f"{at}/{TEST}")
    if validation := run.validation_predictions:
        found = calibration.figures(*validation)
        figures = {"validation_accuracy": found["accuracy"], "validation_loss": found["nll"]}
        yield from _compare(test, figures, f"{at}/{TEST}", tolerance=ROUNDED)
        if (run.path / CALIBRATION).exists():
            yield from _calibration(run, validation)
    right = probabilities.argmax(-1) == labels
    if (run.path / ROBUSTNESS).exists():
        robustness = run.read_json(ROBUSTNESS)
        clean = float(right[: robustness["examples"]].mean())
        yield Check(f"{at}/{ROBUSTNESS} clean", robustness["clean"], clean, ROUNDED)
    if (run.path / EXPLANATION).exists():
        for example in run.read_json(EXPLANATION)["examples"]:
            index = example["index"]
            again = {"label": int(labels[index]), "prediction": int(probabilities[index].argmax())}
            again["confidence"] = float(probabilities[index].max())
            yield from _compare(example, again, f"{at}/{EXPLANATION} example {index}")


def of_ensemble(run: RunFolder, folder: Path) -> Iterator[Check]:
    """The figures of ensemble.json: all of them, where its members are published in `folder`."""
    at, published = f"{run.path}/{ENSEMBLE}", run.read_json(ENSEMBLE)
    paths = [folder.joinpath(*Path(member["run"]).parts[1:]) for member in published["members"]]
    if all((path / TEST).exists() for path in paths):
        _, _, again = ensemble.vote([RunFolder(path) for path in paths], published["rule"])
        for member, other in zip(again["members"], published["members"], strict=True):
            member["run"] = other["run"]
            if "fingerprint" not in other:  # of an ensemble from before there was one
                del member["fingerprint"]
        fitted = published["rule"] in ("fitted", "stacked")
        yield from _compare(published, again, at, tolerance=FITTED if fitted else EXACT)
    else:
        names = [scores["name"] for scores in published["test"]["per_class"]]
        yield from _scores(published["test"], run.predictions, names, f"{at} test")
    if (run.path / CALIBRATION).exists() and (validation := run.validation_predictions):
        yield from _calibration(run, validation)


def of_table(table: Path) -> Iterator[Check]:
    """The columns of a study's table that its runs give."""
    with open(table, newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        runs = [
            RunFolder(path)
            for path in sorted(table.parent.glob(f"{glob.escape(row['label'])}-seed*"))
        ]
        (again,) = compare.summarize([(row["label"], {}, runs)])
        for column in COLUMNS:
            published = float(row[column]) if row[column] else None
            figure = getattr(again, column)
            again_value = float(figure) if figure is not None else None
            yield Check(f"{table} {row['label']} {column}", published, again_value, EXACT)


def of_reproduction(folder: Path, readme: Path) -> list[Check]:
    """The table of every row, and the one in the project's README."""
    if not (folder / reproduction.SYSTEMS).exists():
        return []
    whole, short = reproduction.render(folder)
    published = (folder / reproduction.TABLE).read_text(), reproduction.between(readme)
    names = (str(folder / reproduction.TABLE), str(readme))
    return [
        Check(name, _hash(text), _hash(again), EXACT)
        for name, text, again in zip(names, published, (whole, short), strict=True)
    ]


def _hash(text: str) -> str:
    """Short enough for an error."""
    import hashlib

    return f"a table of SHA-256 {hashlib.sha256(text.strip().encode()).hexdigest()[:12]}"


def _scores(
    published: Any, predictions: tuple[np.ndarray, np.ndarray], names: Sequence[str], at: str
):
    probabilities, labels = predictions
    again = score(calibration.log_probabilities(probabilities), labels, names)
    unseen = float((probabilities[np.arange(len(labels)), labels] == 0).mean())
    yield Check(f"{at} loss", published["loss"], again.pop("loss"), ROUNDED + unseen * UNSEEN)
    yield from _compare(published, again, at)


def _calibration(run: RunFolder, validation: tuple[np.ndarray, np.ndarray]) -> Iterator[Check]:
    again, published = (
        calibration.calibrate(validation, run.predictions),
        run.read_json(CALIBRATION),
    )
    if "p" not in published:  # of a run from before that was computed
        del again["p"]
    for key, value in again.items():
        tolerance = FITTED if key in ("temperature", "scaled") else EXACT
        yield from _compare(
            published[key], value, f"{run.path}/{CALIBRATION} {key}", tolerance=tolerance
        )


def _labels(run: RunFolder, known: dict[str, data.Splits | None]) -> list[Check] | None:
    """The run's labels against those of its data; None where that cannot be read here."""
    config = run.config.data
    key = json.dumps(config.to_dict(), sort_keys=True)
    if key not in known:
        try:
            known[key] = data.load(config)
        except DataError:
            known[key] = None
    splits = known[key]
    if splits is None:
        return None
    checks = [
        Check(
            f"{run.path} fingerprint", run.data["fingerprint"], splits.report["fingerprint"], EXACT
        )
    ]
    sets = {
        "test": (run.predictions, splits.test),
        "validation": (run.validation_predictions, splits.validation),
    }
    for name, (predictions, dataset) in sets.items():
        if predictions is not None:
            same = np.array_equal(predictions[1], dataset.labels)
            checks.append(
                Check(f"{run.path} labels of the {name} set are the data's", True, same, EXACT)
            )
    return checks


def _absent(known: Mapping[str, Any], count: int) -> str:
    if not count:
        return ""
    names = sorted({json.loads(key)["name"] for key, splits in known.items() if splits is None})
    return f"; {', '.join(names)}, of {count} runs, cannot be read here"


def _compare(published: Any, again: Any, at: str, *, tolerance: float = EXACT) -> Iterator[Check]:
    """A check of each figure in `again`, nested as in `published`."""
    if isinstance(again, Mapping) and isinstance(published, Mapping):
        for key, value in again.items():
            yield from _compare(published.get(key), value, f"{at} {key}", tolerance=tolerance)
    elif (
        isinstance(again, Sequence)
        and not isinstance(again, str)
        and isinstance(published, Sequence)
    ):
        yield Check(f"{at} count", len(published), len(again), EXACT)
        for number, (one, other) in enumerate(zip(published, again, strict=False)):
            yield from _compare(one, other, f"{at} {number}", tolerance=tolerance)
    else:
        yield Check(at, published, again, tolerance)
