"""What launch.py's modes do: each function here is one of them."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from imgcls_jax import backend
from imgcls_jax.data import checks
from imgcls_jax.errors import DataError, RunError, choose
from imgcls_jax.run_folder import (
    CALIBRATION,
    CONFIG,
    DATA,
    ENSEMBLE,
    ENVIRONMENT,
    EXPLANATION,
    METRICS,
    PREDICTIONS,
    PROFILE,
    REPORT,
    ROBUSTNESS,
    SHOWN,
    TEACHER,
    TEST,
    WHERE,
    RunFolder,
    differing,
    flat_options,
)

if TYPE_CHECKING:
    from imgcls_jax.data import Splits

log = logging.getLogger(__name__)

# Files that are kept in results/, those of them that are there.
PUBLISHED = (
    *(CONFIG, ENVIRONMENT, DATA, METRICS, TEST, PREDICTIONS, REPORT, "dashboard.png"),
    *(CALIBRATION, "calibration.png"),
    *(ROBUSTNESS, "robustness.md", "robustness.csv", "robustness.png"),
    *(EXPLANATION, "explain.png"),
)
PUBLISHED_OF_ENSEMBLES = (ENSEMBLE, "ensemble.md", "ensemble.png", PREDICTIONS, CALIBRATION, "calibration.png", REPORT)


def train(config: ConfigDict, workdir: Path) -> RunFolder:
    """Trains, tests and reports the run of `config` in `workdir`; resumes it where it stopped, repeats nothing.

    Raises RunError where the folder holds a run of another config or of other data, or another process trains there.
    """
    from imgcls_jax import data, pretrained

    config = _checked(config)
    run = RunFolder(workdir)
    _check_folder(run, config)
    if run.finished:
        log.info("%s is finished.\n%s", run.path, _figures(run))
        return run
    backend.configure(cpu_devices=config.train.cpu_devices)
    if not run.begun:
        pretrained.fetch(config)  # first of all, since it is what may not be there
    splits = data.load(config.data)
    if run.begun:
        _check_data(run, splits)
    log.info("%s", checks.summary(splits.report))
    with run.locked():
        _train(config, run, splits)
    log.info("%s", _figures(run))
    return run


def _checked(config: ConfigDict) -> ConfigDict:
    """The config with what its pretrained weights bring. Raises ConfigError for options that cannot be."""
    from imgcls_jax import pretrained
    from imgcls_jax.training import options

    options.check(config)
    return pretrained.resolve(config)


def _train(config: ConfigDict, run: RunFolder, splits: "Splits") -> None:
    from imgcls_jax.evaluation import predict, teacher
    from imgcls_jax.training import loop, recorder

    run.write_json(CONFIG, config.to_dict())
    run.write_json(ENVIRONMENT, backend.describe() | {"data_fingerprint": splits.report["fingerprint"]})
    run.write_json(DATA, splits.report)
    loop.train(config, run, teacher.taught(config, splits, run.path / TEACHER))
    if not (run.path / TEST).exists():
        predict.test(run, splits)
    _report(run, splits)
    recorder.write_images(run, step=run.test["best_step"], names=("samples.png", "confusion.png"))


def profile(config: ConfigDict, workdir: Path) -> None:
    """Traces a few steps of the config's training into `workdir`/profile, and prints what they cost."""
    from imgcls_jax import data
    from imgcls_jax.evaluation import teacher
    from imgcls_jax.training import profiling

    config = _checked(config)
    backend.configure(cpu_devices=config.train.cpu_devices)
    folder = workdir / PROFILE
    figures = profiling.profile(config, teacher.taught(config, data.load(config.data)), folder)
    log.info("%s", profiling.describe(figures, folder))


def show_data(config: ConfigDict, workdir: Path) -> None:
    """Draws some training images as the model sees them, several draws of each, into `workdir`/show_data.png."""
    from imgcls_jax import data
    from imgcls_jax.reporting import plots
    from imgcls_jax.training import preview

    config = _checked(config)
    backend.configure()
    splits = data.load(config.data)
    log.info("%s", checks.summary(splits.report))
    shown = preview.draw(config, splits.train)
    workdir.mkdir(parents=True, exist_ok=True)
    names = [splits.train.class_names[label] for label in splits.train.labels[shown.indices]]
    plots.save(plots.batch(splits.train.images[shown.indices], shown.images, names), workdir / SHOWN)
    log.info("%s\n%s", shown.words, workdir / SHOWN)


def report(folders: list[str]) -> None:
    """Writes the pages of tested runs anew."""
    backend.configure()
    for run, splits in _runs_with_data(folders):
        _report(run, splits)
        log.info("%s", run.path / REPORT)


def _report(run: RunFolder, splits: "Splits") -> None:
    from imgcls_jax.evaluation import calibration, predict
    from imgcls_jax.reporting import run_report

    if run.validation_predictions is None:
        predict.add_validation(run, splits)
    calibration.write(run)
    run_report.write(run, train=splits.train, test=splits.test)


def robustness(folders: list[str], limit: int = 0) -> None:
    """Evaluates finished runs on corrupted test images, and writes tables, plots and the pages anew.

    limit: only so many of the first test images; 0 takes all.
    """
    from imgcls_jax.evaluation import robustness
    from imgcls_jax.reporting import robustness as tables

    backend.configure()
    for run, splits in _runs_with_data(folders):
        table = tables.write(run, robustness.evaluate(run, splits.test, limit=limit))
        _report(run, splits)
        log.info("\n%s\n%s\n%s", run.path, table, run.path / "robustness.png")


def ensemble(folders: list[str], *, weights: str = "equal", workdir: str | Path | None = None) -> None:
    """Lets tested runs vote, and writes the ensemble's figures, predictions, table, picture and page into `workdir`."""
    from imgcls_jax.evaluation import calibration, ensemble, predict
    from imgcls_jax.reporting import ensemble as pages

    members, run = [RunFolder(folder) for folder in folders], RunFolder(workdir or "runs/ensemble")
    if (run.path / CONFIG).exists():
        raise RunError(f"{run.path} holds a run. Give the ensemble another --workdir.")
    voted, validation, found = ensemble.vote(members, weights)
    _, splits = next(_runs_with_data(folders))
    run.path.mkdir(parents=True, exist_ok=True)
    predict.write(run, (voted, splits.test.labels), validation)
    if validation is not None:
        calibration.write(run)
    run.write_json(ENSEMBLE, found)
    table = pages.write(run, members, splits.test)
    log.info("%s\n%s\n%s", table, "\n".join(pages.sentences(found)), run.path / REPORT)


def explain(folders: list[str], method: str = "gradcam") -> None:
    """Draws what finished runs look at in some of their test images, and writes the pages anew.

    method: a key of evaluation.gradcam.METHODS.
    """
    from imgcls_jax.evaluation import gradcam
    from imgcls_jax.reporting import explain

    backend.configure()
    choose("method (--method)", method, gradcam.METHODS)
    for run, splits in _runs_with_data(folders):
        explain.write(run, splits.test, *gradcam.explain(run, splits.test, method=method))
        _report(run, splits)
        log.info("%s", run.path / "explain.png")


def predict(arguments: list[str], images: Sequence[str] = ()) -> None:
    """Prints a line of JSON for each image, in their order; counts and a picture of some go to stderr and the run.

    arguments: the folder of a run, an ensemble or an export, then further images. images: files, folders and globs.
    Raises DataError at the end where images could not be read.
    """
    from tqdm import tqdm

    from imgcls_jax.data import image_files
    from imgcls_jax.evaluation import classifiers
    from imgcls_jax.evaluation.images import classify
    from imgcls_jax.reporting.predictions import Summary

    files = image_files.find([*images, *arguments[1:]])
    if not (arguments and files):
        raise RunError("Run folder and images are needed: python launch.py --mode predict runs/NAME --images PATH...")
    backend.configure()
    classifier = classifiers.load(arguments[0])
    log.info("%s", classifier.reader)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ends without a traceback where our lines go to head
    summary = Summary(classifier.class_names)
    predictions = classify(classifier, files)
    for prediction in tqdm(predictions, total=len(files), desc=classifier.name, unit="image", disable=None):
        tqdm.write(json.dumps(prediction.line(classifier.class_names)))  # print would tear the progress bar
        summary.add(prediction)
    log.info("%s", summary.write(RunFolder(arguments[0])))
    if summary.unreadable:
        raise DataError(f"{summary.unreadable:,} of {summary.files:,} images could not be read; their lines say why.")


def export(folders: list[str]) -> None:
    """Writes each run's best model as files that need no imgcls_jax, and its model card, into RUN/export."""
    from imgcls_jax.evaluation import export
    from imgcls_jax.reporting import model_card

    backend.configure()
    for run in _tested(folders, mode="export"):
        log.info("%s", model_card.write(run, export.write(run)))


def _tested(folders: list[str], *, mode: str = "MODE") -> Iterator[RunFolder]:
    """Each run. Raises RunError where there is none, or it has not got as far as its test figures."""
    from imgcls_jax.training import options

    if not folders:
        raise RunError(f"No run folder given: python launch.py --mode {mode} runs/NAME.")
    for run in map(RunFolder, folders):
        run.test, options.of_run(run)  # noqa: B018  the errors
        yield run


def _runs_with_data(folders: list[str]) -> Iterator[tuple[RunFolder, "Splits"]]:
    """Each run with the data that its config names. Raises RunError where that is no longer the run's."""
    from imgcls_jax import data

    for run in _tested(folders):
        splits = data.load(run.config.data)
        _check_data(run, splits)
        yield run, splits


def _check_data(run: RunFolder, splits: "Splits") -> None:
    theirs, ours = run.data["fingerprint"], splits.report["fingerprint"]
    if theirs != ours:
        raise RunError(
            f"{run.path} was made of other data (fingerprint {theirs[:12]}, now {ours[:12]}). Put its data back, or "
            "train anew in another --workdir."
        )


def _check_folder(run: RunFolder, config: ConfigDict) -> None:
    if not run.begun and not run.finished:
        files = {child.name for child in run.path.iterdir() if child.name[0] != "."} if run.path.is_dir() else set()
        if CONFIG not in files and files - {PROFILE, SHOWN}:
            raise RunError(f"{run.path} holds other files and no run. Give another --workdir, or empty it.")
        return  # what was refused, or failed, before its first checkpoint stands in nobody's way
    theirs, ours = flat_options(run.config), flat_options(ConfigDict(json.loads(json.dumps(config.to_dict()))))
    differs = [
        f"  {key}: {theirs.get(key, 'not set')!r} there, {ours.get(key, 'not set')!r} now"
        for key in differing(theirs, ours, free=WHERE)
    ]
    if differs:
        raise RunError(
            f"{run.path} holds the run of another config:\n" + "\n".join(differs) + "\nGive another --workdir or "
            "--config.name to train this one, or delete the folder."
        )


def _figures(run: RunFolder) -> str:
    test = run.test
    return (
        f"test accuracy {test['accuracy']:.2%}, test loss {test['loss']:.4f} (best epoch {test['best_epoch']} of "
        f"{test['epochs']}, validation accuracy {test['validation_accuracy']:.2%}, {test['parameters']:,} parameters)\n"
        f"report: {run.path / REPORT}"
    )


def compare(folders: list[str]) -> None:
    """Prints one table of several finished runs, and how they compare on the same test images.

    Runs whose configs differ in nothing but the seed share a row.
    """
    from imgcls_jax.reporting import compare

    runs = [RunFolder(folder) for folder in folders]
    if not runs:
        raise RunError("No run folders given: python launch.py --mode compare runs/NAME runs/OTHER.")
    alike: dict[str, list[RunFolder]] = {}
    for run in runs:
        run.read_json(CONFIG)["seed"], run.read_json(CONFIG)["model"]  # noqa: B018  errors where they are missing
        config = run.config
        config.seed = 0
        alike.setdefault(config.to_json_best_effort(), []).append(run)
    names = [group[0].name for group in alike.values()]
    labels = names if len(set(names)) == len(names) else [str(group[0].path) for group in alike.values()]
    groups = [(label, {}, group) for label, group in zip(labels, alike.values(), strict=True)]
    print(compare.markdown(compare.summarize(groups)), *compare.pairs(groups), sep="\n")


def publish(folders: list[str]) -> None:
    """Copies the small files of finished runs, or of studies of them, to results/NAME; checkpoints stay.

    Raises RunError where a folder is neither, or not finished.
    """
    if not folders:
        raise RunError("No run folder given: python launch.py --mode publish runs/NAME.")
    for folder in map(Path, folders):
        if not os.path.isdir(folder):  # a name too long for the file system is none, for it
            raise RunError(f"{folder} is neither a run folder nor a study of runs: there is no such folder.")
        target = Path("results", folder.resolve().name)
        if (folder / ENSEMBLE).exists():
            _copy(folder, target, PUBLISHED_OF_ENSEMBLES)
        else:
            _publish_runs(folder, target)
        log.info("%s", target)


def _publish_runs(folder: Path, target: Path) -> None:
    runs = [folder] if (folder / CONFIG).exists() else sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if not runs:
        raise RunError(f"{folder} is neither a run folder nor a study of runs.")
    unfinished = [str(run) for run in runs if not RunFolder(run).finished]
    if unfinished:
        raise RunError(f"Not finished: {', '.join(unfinished)}. Train them first; the same command resumes.")
    for run in runs:
        RunFolder(run).test, RunFolder(run).predictions  # noqa: B018  the errors, before anything is copied
    for run in runs:
        _copy(run, target / run.relative_to(folder), PUBLISHED)
    if runs != [folder]:
        _copy(folder, target, ("table.md", "table.csv", "table.png"))


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copies those of the files that are there."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
