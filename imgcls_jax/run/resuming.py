"""Whether a folder holds the run of a config: what a command resumes and what it refuses."""

import json
import logging
import os
from typing import Any

from ml_collections import ConfigDict

from imgcls_jax.config import trial
from imgcls_jax.config.options import NOT_IDENTITY, differing, flat_options
from imgcls_jax.data import Splits
from imgcls_jax.errors import RunError
from imgcls_jax.run.folder import (
    CONFIG,
    DATA,
    ENVIRONMENT,
    PROFILE,
    RANGE_TEST,
    REPORT,
    SHOWN,
    TEST,
    RunFolder,
)

log = logging.getLogger(__name__)

# What other commands than training write into a folder without a run.
OTHER_FILES = {PROFILE, RANGE_TEST, SHOWN}


def finished(config: ConfigDict, run: RunFolder) -> bool:
    """Whether the folder has the finished run of the config; if so, its figures are logged.

    config: with derived options, as `train.checked` returns it. Raises RunError if the folder holds
    other files or the run of another config.
    """
    check_folder(config, run)
    if run.finished:
        log.info("%s is finished.\n%s", run.path, figures(run))
    return run.finished


def check_folder(config: ConfigDict, run: RunFolder) -> None:
    """Raises RunError if the folder holds other files or the run of another config.

    config: as of `finished`.
    """
    names = (CONFIG, ENVIRONMENT, TEST)  # a single one of them may be of anything else
    has_results = run.finished or all((run.path / name).exists() for name in names)
    if not run.begun and not has_results:
        # What failed before its first checkpoint is no obstacle.
        _check_no_other_files(run)
        return
    if not (run.path / CONFIG).exists() and (run.path / DATA).exists():
        # The user deleted it since it was damaged.
        log.warning("%s is missing: the run is taken for one of this config.", run.path / CONFIG)
        return
    _check_config(run, config)


def folder_for(config: ConfigDict, run: RunFolder, *, use: str) -> RunFolder:
    """Returns the run's folder or, if it holds the run of another config, NAME-USE beside it.

    use: what a command writes there, as "profile". config: as of `finished`. Raises RunError if the
    folder beside it holds a run of another config, too.
    """
    if not _other_options(run, config):
        return run
    beside = RunFolder(f"{run.path}-{use}")
    if _other_options(beside, config):
        _check_config(beside, config)
    log.info("%s holds the run of another config: %s is used instead.", run.path, beside.path)
    return beside


def check_data(run: RunFolder, splits: Splits) -> None:
    """Raises RunError if these are not the data that the run was trained on."""
    expected = run.data["fingerprint"]
    actual = splits.report["fingerprint"]
    if actual != expected:
        raise RunError(
            f"{run.path} was made of other data (fingerprint {expected[:12]}, now {actual[:12]}). "
            "Put its data back, or train again in another --workdir."
        )


def figures(run: RunFolder) -> str:
    """The figures of a finished run and where its page is, in two lines."""
    test = run.test
    page = run.path / REPORT
    report = str(page)
    if run.published and not os.path.exists(page):
        report = f"imgcls report {run.path} writes it"
    trial_note = ""
    if run.is_trial:
        trial_note = f"{trial.description(run.config.quick)}: "
    return (
        f"{trial_note}test accuracy {test['accuracy']:.2%}, test loss {test['loss']:.4f} "
        f"(best epoch {test['best_epoch']} of {test['epochs']}, "
        f"validation accuracy {test['validation_accuracy']:.2%}, "
        f"{test['parameters']:,} parameters)\n"
        f"report: {report}"
    )


def _check_no_other_files(run: RunFolder) -> None:
    if not run.path.is_dir():
        return
    names = {child.name for child in run.path.iterdir()}
    visible = {name for name in names if not name.startswith(".")}
    if not _has_config(run) and visible - OTHER_FILES:
        raise RunError(
            f"{run.path} holds other files and no run. Give another --workdir, or empty it."
        )


def _has_config(run: RunFolder) -> bool:
    """Returns whether the folder's config.json is that of a run, which a model of others has too."""
    if not (run.path / CONFIG).exists():
        return False
    if (run.path / ENVIRONMENT).exists():
        return True
    try:
        return "source" in run.config.data
    except RunError:
        return False


def _check_config(run: RunFolder, config: ConfigDict) -> None:
    """Raises RunError that lists the options in which the folder's run differs from the config."""
    differences = _other_options(run, config)
    if not differences:
        return
    lines = [f"{run.path} holds the run of another config:"]
    for path, (there, now) in differences.items():
        lines.append(f"  {path}: {there!r} there, {now!r} now")
    advice = (
        "Give another --workdir or --config.name to train this one, or delete the folder."
        + _advice_on_continuing(run, list(differences))
    )
    raise RunError("\n".join([*lines, advice]))


def _other_options(run: RunFolder, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns the options in which the folder's run differs: its values and those of the config.

    There are none if the folder has no config.json.
    """
    if not (run.path / CONFIG).exists():
        return {}
    saved = flat_options(run.config)
    text = json.dumps(config.to_dict())
    current = flat_options(ConfigDict(json.loads(text)))  # as read from config.json
    ignored = NOT_IDENTITY
    if saved.get("name") is None or current.get("name") is None:
        ignored = (*NOT_IDENTITY, "name")  # a run without a name is called after its config's file
    differences = {}
    for path in differing(saved, current, ignored=ignored):
        differences[path] = (saved.get(path, "not set"), current.get(path, "not set"))
    return differences


def _advice_on_continuing(run: RunFolder, keys: list[str]) -> str:
    """How to train the run's model further, as for more epochs: its own schedule has ended."""
    is_other_model = any(key.startswith(("model.", "adapt.lora.")) for key in keys)
    if is_other_model or not run.begun:
        return ""
    return (
        f" With another name and --config.model.pretrained={run.path} it starts from that run's "
        "best weights, and goes through its own epochs and schedule from the first."
    )
