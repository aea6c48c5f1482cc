"""What launch.py's modes do: each function here is one of them."""

import json
import logging
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from imgcls_jax import backend, console, processes
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
    WHERE,
    RunFolder,
    differing,
    flat_options,
    runs_in,
)

if TYPE_CHECKING:
    from imgcls_jax.data import Splits

log = logging.getLogger(__name__)


def train(config: ConfigDict, workdir: Path) -> RunFolder:
    """Trains, tests and reports the run of `config` in `workdir`; resumes it where it stopped, repeats nothing.

    Raises RunError where the folder holds a run of another config or of other data, or another process trains there.
    """
    from imgcls_jax import data, pretrained

    config = checked(config)
    run = RunFolder(workdir)
    backend.configure(cpu_devices=config.train.cpu_devices)
    theirs, begun, over = processes.from_first(lambda: _look(run, config))
    processes.check_same("config", config.to_json_best_effort(), theirs)
    if over:
        return run
    if processes.first():
        run.check_writable()
    if not begun:
        pretrained.fetch(config)  # first of all, since it is what may not be there
    splits = data.load(config.data)
    processes.check_same("data", splits.fingerprint, processes.from_first(lambda: splits.fingerprint))
    if begun and processes.first() and (run.path / DATA).exists():
        _check_data(run, splits)
    checks.tell(splits.report)
    with run.locked():
        _train(config, run, splits)
    return run


def checked(config: ConfigDict) -> ConfigDict:
    """The config with what its pretrained weights bring. Raises ConfigError for options that cannot be."""
    from imgcls_jax import pretrained
    from imgcls_jax.training import options

    options.check(config)
    return pretrained.resolve(config)


def finished(config: ConfigDict, run: RunFolder) -> bool:
    """Whether the folder has the finished run of the config, as `checked` gives it; its figures are then shown.

    Raises RunError where it holds the run of another config.
    """
    _check_folder(run, config)
    if run.finished:
        log.info("%s is finished.\n%s", run.path, _figures(run))
    return run.finished


def _look(run: RunFolder, config: ConfigDict) -> list[Any]:
    """The config as JSON, and whether its run has begun and is finished."""
    return [config.to_json_best_effort(), run.begun, finished(config, run)]


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
    log.info("%s", _figures(run))


def profile(config: ConfigDict, workdir: Path) -> None:
    """Traces a few steps of the config's training into `workdir`/profile, and prints what they cost."""
    from imgcls_jax import data
    from imgcls_jax.evaluation import teacher
    from imgcls_jax.training import profiling

    config = checked(config)
    backend.configure(cpu_devices=config.train.cpu_devices)
    folder = workdir / PROFILE
    figures = profiling.profile(config, teacher.taught(config, data.load(config.data)), folder)
    log.info("%s", profiling.describe(figures, folder))


def show_data(config: ConfigDict, workdir: Path) -> None:
    """Draws some training images as the model sees them, several draws of each, into `workdir`/show_data.png."""
    from imgcls_jax import data
    from imgcls_jax.reporting import fonts, plots
    from imgcls_jax.training import preview

    config = checked(config)
    backend.configure()
    splits = data.load(config.data)
    checks.tell(splits.report)
    shown = preview.draw(config, splits.train)
    workdir.mkdir(parents=True, exist_ok=True)
    class_names = fonts.legible(splits.train.class_names)
    names = [class_names[label] for label in splits.train.labels[shown.indices]]
    plots.save(plots.batch(splits.train.images[shown.indices], shown.images, names), workdir / SHOWN)
    log.info("%s\n%s", shown.words, workdir / SHOWN)


def report(folders: list[str]) -> None:
    """Writes the pages of tested runs anew."""
    backend.configure()
    for run, splits in _runs_with_data(folders):
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
    for folder in map(Path, folders):
        log.info("%s", index.write(folder))


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
    voted, validation, found = ensemble.vote(members, weights, run.path)
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
    published = arguments[0] in pretrained.CATALOG
    log.info("%s", summary.text() if published else summary.write(RunFolder(arguments[0])))
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
        splits = data.load(run.config.data, keep=False)
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
    if not (run.path / CONFIG).exists() and (run.path / DATA).exists():  # deleted, since it was damaged
        log.warning("%s is missing: the run is taken for one of this config.", run.path / CONFIG)
        return
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
    workdir = Path(workdir or "runs/comparison")
    if (workdir / CONFIG).exists():
        raise RunError(f"{workdir} holds a run. Give the comparison another --workdir.")
    backend.configure()
    console.say(compare.write(groups, workdir, title="Comparison", meter=cost.Meter()))
    log.info("%s", workdir / "table.md")


def reproduce(folders: list[str]) -> None:
    """Writes the table of every row of the reports into the folder of the published results, and into README.md."""
    from imgcls_jax.reporting import reproduction

    folder = Path(*folders or ["results"])
    log.info("%s\n%s", reproduction.write(folder, Path("README.md")), folder / reproduction.TABLE)


def publish(folders: list[str]) -> None:
    """Copies the small files of finished runs, studies or ensembles to results/NAME; checkpoints stay."""
    from imgcls_jax import publishing

    if not folders:
        raise RunError("No run folder given: python launch.py --mode publish runs/NAME.")
    for folder in map(Path, folders):
        log.info("%s", publishing.publish(folder))
