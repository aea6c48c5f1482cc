"""What launch.py's modes do: each function here is one of them."""

import contextlib
import json
import logging
import os
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from imgcls_jax import backend, console, processes, reads, resuming
from imgcls_jax.data import checks
from imgcls_jax.errors import DataError, RunError, choose, printable
from imgcls_jax.run_folder import (
    CONFIG,
    DATA,
    ENSEMBLE,
    ENVIRONMENT,
    PREDICTIONS,
    PROFILE,
    REPORT,
    SHOWN,
    TEACHER,
    TEST,
    RunFolder,
    runs_in,
)

if TYPE_CHECKING:
    from imgcls_jax.data import Splits
    from imgcls_jax.reporting.predictions import Summary

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that --mode predict waits for another command that writes into the run's folder


def train(config: ConfigDict, workdir: Path, given: Iterable[str] = (), *, patience: float = 0.0) -> RunFolder:
    """Trains, tests and reports the run of `config` in `workdir`; resumes it where it stopped, repeats nothing.

    given: paths of the options that the command line set; those that nothing reads are named. patience: seconds to wait
    for another process that writes there. Raises RunError where it does not end, and where the folder holds a run of
    another config or of other data.
    """
    from imgcls_jax import data, pretrained

    config = checked(reads.recorded(config, given))
    run = RunFolder(workdir)
    backend.configure(cpu_devices=config.train.cpu_devices)
    theirs, over = processes.from_first(lambda: (config.to_json_best_effort(), resuming.finished(config, run)))
    processes.check_same("config", config.to_json_best_effort(), theirs)
    if over:
        return run
    with run.locked(patience=patience):
        # Looked at again: until the lock was ours another process may have trained here.
        begun, over = processes.from_first(lambda: (run.begun, resuming.finished(config, run)))
        if over:
            return run
        if not begun:
            pretrained.fetch(config)  # first of all, since it is what may not be there
        splits = data.load(config.data)
        processes.check_same("data", splits.fingerprint, processes.from_first(lambda: splits.fingerprint))
        if begun and processes.first() and (run.path / DATA).exists():
            resuming.check_data(run, splits)
        checks.tell(splits.report)
        _train(config, run, splits)
    return run


def checked(config: ConfigDict) -> ConfigDict:
    """The config with what its pretrained weights bring. Raises ConfigError for options that cannot be."""
    from imgcls_jax import pretrained
    from imgcls_jax.training import options

    options.check(config)
    return pretrained.resolve(config)


def _train(config: ConfigDict, run: RunFolder, splits: "Splits") -> None:
    from imgcls_jax import pretrained
    from imgcls_jax.evaluation import predict, teacher
    from imgcls_jax.training import loop, recorder

    environment = backend.describe() | {"data_fingerprint": splits.report["fingerprint"]}
    if processes.first() and run.begun and (before := run.environment["device_count"]) != environment["device_count"]:
        log.info(
            "The run was on %s so far and goes on on %d: its numbers will agree with those of either to rounding.",
            f"{before} device{'s' * (before > 1)}",
            environment["device_count"],
        )
    if processes.first():
        weights = run.environment.get("weights") if run.begun else pretrained.describe(config)
        environment |= {"weights": weights} if weights else {}
    run.write_json(CONFIG, config.to_dict())
    run.write_json(ENVIRONMENT, environment)
    run.write_json(DATA, splits.report)
    loop.train(config, run, teacher.taught(config, splits, run.path / TEACHER))
    if not processes.first():
        return
    if not ((run.path / TEST).exists() and (run.path / PREDICTIONS).exists()):
        predict.test(run, splits)
    recorder.write_results(run)
    _report(run, splits, before_page=recorder.write_pictures)
    log.info("%s", resuming.figures(run))


def profile(config: ConfigDict, workdir: Path, given: Iterable[str] = ()) -> None:
    """Traces a few steps of the config's training into `workdir`/profile, and prints what they cost."""
    from imgcls_jax import data
    from imgcls_jax.evaluation import teacher
    from imgcls_jax.training import profiling

    config = checked(reads.recorded(config, given))
    backend.configure(cpu_devices=config.train.cpu_devices)
    folder = workdir / PROFILE
    with RunFolder(workdir).locked():
        figures = profiling.profile(config, teacher.taught(config, data.load(config.data)), folder)
    log.info("%s", "\n".join([profiling.describe(figures, folder), *reads.unread(config)]))


def show_data(config: ConfigDict, workdir: Path, given: Iterable[str] = ()) -> None:
    """Draws some training images as the model sees them, several draws of each, into `workdir`/show_data.png."""
    from imgcls_jax import data
    from imgcls_jax.reporting import fonts, plots
    from imgcls_jax.training import preview

    config = checked(reads.recorded(config, given))
    backend.configure()
    splits = data.load(config.data)
    checks.tell(splits.report)
    shown = preview.draw(config, splits.train)
    class_names = fonts.legible(splits.train.class_names)
    names = [class_names[label] for label in splits.train.labels[shown.indices]]
    with RunFolder(workdir).locked():
        plots.save(plots.batch(splits.train.images[shown.indices], shown.images, names), workdir / SHOWN)
    log.info("%s", "\n".join([shown.words, str(workdir / SHOWN), *reads.unread(config)]))


def report(folders: list[str]) -> None:
    """Writes the pages of tested runs anew."""
    backend.configure()
    for run in _runs(folders, mode="report"):
        with _locked_with_data(run) as splits:
            _report(run, splits)
        log.info("%s", run.path / REPORT)


def _report(run: RunFolder, splits: "Splits", **options: Any) -> None:
    from imgcls_jax.evaluation import calibration, predict
    from imgcls_jax.reporting import run_report

    if run.validation_predictions is None:
        predict.add_validation(run, splits)
    calibration.write(run)
    run_report.write(run, train=splits.train, test=splits.test, **options)


def index(folders: list[str]) -> None:
    """Writes FOLDER/index.html, a page of all finished runs below the folder, for each of the folders."""
    from imgcls_jax.reporting import index

    if not folders:
        raise RunError("No folder given: python launch.py --mode index runs.")
    for folder in map(Path, map(os.path.expanduser, folders)):
        log.info("%s", index.write(folder))


def robustness(folders: list[str], limit: int = 0) -> None:
    """Evaluates finished runs on corrupted test images, and writes tables, plots and the pages anew.

    limit: only so many of the first test images; 0 takes all.
    """
    from imgcls_jax.evaluation import robustness
    from imgcls_jax.reporting import robustness as tables

    backend.configure()
    for run in _runs(folders, mode="robustness"):
        with _locked_with_data(run) as splits:
            table = tables.write(run, robustness.evaluate(run, splits.test, limit=limit))
            _report(run, splits)
        log.info("\n%s\n%s\n%s", run.path, table, run.path / "robustness.png")


def ensemble(folders: list[str], *, weights: str = "equal", workdir: str | Path | None = None) -> None:
    """Lets tested runs vote, and writes the ensemble's figures, predictions, table, picture and page into `workdir`."""
    from imgcls_jax.evaluation import calibration, ensemble, predict
    from imgcls_jax.reporting import ensemble as pages

    members, run = [RunFolder(folder) for folder in folders], RunFolder(workdir or "runs/ensemble")
    with run.locked():
        if (run.path / CONFIG).exists():
            raise RunError(f"{run.path} holds a run. Give the ensemble another --workdir.")
        voted, validation, found = ensemble.vote(members, weights, run.path)
        splits = _data_of(next(_runs(folders)))
        predict.write(run, (voted, splits.test.labels), validation)
        if validation is not None:
            calibration.write(run)
        run.write_json(ENSEMBLE, found)
        table = pages.write(run, members, splits.test)
    log.info("%s\n%s\n%s", table, "\n".join(pages.sentences(found)), run.path / REPORT)


def explain(folders: list[str], method: str = "gradcam") -> None:
    """Draws what finished runs look at in some of their test images, says how compact their maps are, and writes the
    pages anew. Of runs on the same test images it compares the maps of each with those of the first.

    method: a key of evaluation.gradcam.METHODS.
    """
    from imgcls_jax.evaluation import gradcam
    from imgcls_jax.reporting import explain

    backend.configure()
    choose("method (--method)", method, gradcam.METHODS)
    compared = explain.Compared()
    for run in _runs(folders, mode="explain"):
        with _locked_with_data(run) as splits:
            found, maps = gradcam.explain(run, splits.test, method=method)
            shares = gradcam.compactness(run, splits.test, method=method)
            explain.write(run, splits.test, found | {"compactness": explain.compactness(shares)}, maps)
            _report(run, splits)
            sentences = compared.sentences(run.name, splits.test, shares)
        log.info("%s\n%s", run.path / "explain.png", "\n".join(sentences))


def predict(arguments: list[str], images: Sequence[str] = ()) -> None:
    """Prints a line of JSON for each image, in their order; counts and a picture of some go to stderr and the run.

    arguments: the folder of a run, an ensemble or an export, then further images; in place of the folder a name in the
    catalogue of weights, and then no picture is drawn. images: files, folders and globs. Raises DataError at the end
    where images could not be read.
    """
    from tqdm import tqdm

    from imgcls_jax import pretrained
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
    for prediction in tqdm(predictions, total=len(files), desc=printable(classifier.name), unit="image", disable=None):
        tqdm.write(json.dumps(prediction.line(classifier.class_names)))  # print would tear the progress bar
        summary.add(prediction)
    log.info("%s", summary.text() if arguments[0] in pretrained.CATALOG else _write_summary(summary, arguments[0]))
    if summary.unreadable:
        raise DataError(f"{summary.unreadable:,} of {summary.files:,} images could not be read; their lines say why.")


def _write_summary(summary: "Summary", folder: str) -> str:
    """Draws the picture of predictions into the folder, unless another command writes there; returns what to say."""
    run = RunFolder(folder)
    try:
        with run.locked(patience=PATIENCE):
            return summary.write(run)
    except RunError as error:  # of the picture alone: the lines are what was asked for
        return f"{summary.text()}\n{error}"


def export(folders: list[str]) -> None:
    """Writes each run's best model as files that need no imgcls_jax, and its model card, into RUN/export."""
    from imgcls_jax.evaluation import export
    from imgcls_jax.reporting import model_card

    backend.configure()
    for run in _runs(folders, mode="export"):
        with run.locked():
            _check_tested(run)
            log.info("%s", model_card.write(run, export.write(run)))


def _runs(folders: list[str], *, mode: str = "MODE") -> Iterator[RunFolder]:
    """Each run. Raises RunError where there is none, or it has not got as far as its test figures."""
    if not folders:
        raise RunError(f"No run folder given: python launch.py --mode {mode} runs/NAME.")
    for run in map(RunFolder, folders):
        _check_tested(run)
        yield run


def _check_tested(run: RunFolder) -> None:
    from imgcls_jax.training import options

    run.test, options.of_run(run)  # noqa: B018  the errors


@contextlib.contextmanager
def _locked_with_data(run: RunFolder) -> Iterator["Splits"]:
    """The data of a run, which nobody else writes into meanwhile."""
    with run.locked():
        _check_tested(run)  # again: it may be another one since it was looked at without the lock
        yield _data_of(run)


def _data_of(run: RunFolder) -> "Splits":
    """The data that the run's config names. Raises RunError where that is no longer the run's."""
    from imgcls_jax import data

    splits = data.load(run.config.data, keep=False)
    resuming.check_data(run, splits)
    return splits


def compare(folders: list[str], workdir: str | Path | None = None) -> None:
    """Prints how finished runs compare on the same test images and what they cost, and writes it into `workdir`.

    folders: runs, studies of runs, or globs of them. Runs whose configs differ in nothing but the seed share a row.
    """
    from imgcls_jax.evaluation import cost
    from imgcls_jax.reporting import compare
    from imgcls_jax.training import options

    runs = runs_in(folders)
    if not runs:
        raise RunError("No run folders given: python launch.py --mode compare runs/NAME runs/OTHER.")
    alike: dict[str, list[RunFolder]] = {}
    for run in runs:
        config = options.of_run(run)
        config.seed = 0
        alike.setdefault(config.to_json_best_effort(), []).append(run)
    names = [re.sub(r"-seed\d+$", "", group[0].name) for group in alike.values()]
    labels = names if len(set(names)) == len(names) else [str(group[0].path) for group in alike.values()]
    groups = [(label, {}, group) for label, group in zip(labels, alike.values(), strict=True)]
    folder = RunFolder(workdir or "runs/comparison")
    backend.configure()
    with folder.locked():
        if (folder.path / CONFIG).exists():
            raise RunError(f"{folder.path} holds a run. Give the comparison another --workdir.")
        console.say(compare.write(groups, folder.path, title="Comparison", meter=cost.Meter()))
    log.info("%s", folder.path / "table.md")


def reproduce(folders: list[str], verify: bool = False) -> None:
    """Writes the table of every row of the reports into the folder of the published results, and into README.md.

    verify: writes nothing, but computes every published figure again from predictions and labels.
    """
    from imgcls_jax.reporting import reproduction, verification

    if len(folders) > 1:
        raise RunError(f"Give one folder of published results, as in --mode reproduce results, not {len(folders)}.")
    folder = Path(*folders or ["results"])
    if verify:
        log.info("%s", verification.verify(folder, Path("README.md")))
        return
    log.info("%s\n%s", reproduction.write(folder, Path("README.md")), folder / reproduction.TABLE)


def publish(folders: list[str]) -> None:
    """Copies the small files of finished runs, studies or ensembles to results/NAME; checkpoints stay."""
    from imgcls_jax import publishing

    if not folders:
        raise RunError("No run folder given: python launch.py --mode publish runs/NAME.")
    for folder in map(Path, map(os.path.expanduser, folders)):
        log.info("%s", publishing.publish(folder))
