"""Whether a folder holds the run of a config: what a command may resume, and what it must leave alone."""

import json
import logging
import os

from ml_collections import ConfigDict

from imgcls_jax.config.options import WHERE, differing, flat_options
from imgcls_jax.data import Splits
from imgcls_jax.errors import RunError
from imgcls_jax.run.folder import CONFIG, DATA, PROFILE, REPORT, SHOWN, RunFolder

log = logging.getLogger(__name__)


def finished(config: ConfigDict, run: RunFolder) -> bool:
    """Whether the folder has the finished run of the config, as `checked` gives it; its figures are then shown.

    Raises RunError where it holds the run of another config.
    """
    _check_folder(run, config)
    if run.finished:
        log.info("%s is finished.\n%s", run.path, figures(run))
    return run.finished


def check_data(run: RunFolder, splits: Splits) -> None:
    """Raises RunError where these are not the data that the run was made of."""
    theirs, ours = run.data["fingerprint"], splits.report["fingerprint"]
    if theirs != ours:
        raise RunError(
            f"{run.path} was made of other data (fingerprint {theirs[:12]}, now {ours[:12]}). Put its data back, or "
            "train anew in another --workdir."
        )


def _check_folder(run: RunFolder, config: ConfigDict) -> None:
    if not run.begun and not run.finished:
        files = (
            {child.name for child in run.path.iterdir() if child.name[0] != "."}
            if run.path.is_dir()
            else set()
        )
        if CONFIG not in files and files - {PROFILE, SHOWN}:
            raise RunError(
                f"{run.path} holds other files and no run. Give another --workdir, or empty it."
            )
        return  # what was refused, or failed, before its first checkpoint stands in nobody's way
    if (
        not (run.path / CONFIG).exists() and (run.path / DATA).exists()
    ):  # deleted, since it was damaged
        log.warning("%s is missing: the run is taken for one of this config.", run.path / CONFIG)
        return
    theirs, ours = (
        flat_options(run.config),
        flat_options(ConfigDict(json.loads(json.dumps(config.to_dict())))),
    )
    free: tuple[str, ...] = WHERE
    if theirs.get("name") is None or ours.get("name") is None:
        free = (*WHERE, "name")  # a run without one is called after its config's file
    if keys := differing(theirs, ours, free=free):
        differs = [
            f"  {key}: {theirs.get(key, 'not set')!r} there, {ours.get(key, 'not set')!r} now"
            for key in keys
        ]
        same_model = run.begun and not any(
            key.startswith(("model.", "adapt.lora.")) for key in keys
        )
        raise RunError(
            f"{run.path} holds the run of another config:\n"
            + "\n".join(differs)
            + "\nGive another --workdir or "
            "--config.name to train this one, or delete the folder."
            + (_further(run) if same_model else "")
        )


def _further(run: RunFolder) -> str:
    """How a run is trained further, as for more epochs: its schedule has ended, and another one begins."""
    return (
        f" With another name and --config.model.pretrained={run.path} it starts from that run's best weights, and goes "
        "through its own epochs and schedule from the first."
    )


def figures(run: RunFolder) -> str:
    """The figures of a finished run and where its page is."""
    test = run.test
    page = str(run.path / REPORT)
    if run.published and not os.path.exists(page):
        page = f"imgcls report {run.path} writes it"
    return (
        f"test accuracy {test['accuracy']:.2%}, test loss {test['loss']:.4f} (best epoch {test['best_epoch']} of "
        f"{test['epochs']}, validation accuracy {test['validation_accuracy']:.2%}, {test['parameters']:,} parameters)\n"
        f"report: {page}"
    )
