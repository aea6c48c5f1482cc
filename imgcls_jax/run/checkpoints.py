"""Checkpoints of a run: Orbax behind three functions, and a hash that Orbax does not keep.

A checkpoint holds two trees of NumPy arrays, `model` (what prediction needs) and `training` (the rest of the state),
and the loop's progress with the SHA-256 of all three. Orbax writes in the background and finishes with a rename, so
that a killed process leaves whole checkpoints only; the hash finds what was damaged later.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

from imgcls_jax import foreign, trees
from imgcls_jax.errors import RunError

log = logging.getLogger(__name__)

TREES = ("model", "training")


class _Best:
    """Orbax' policy that keeps one step: the best so far."""

    step = -1

    def should_preserve(self, checkpoints, *, context):
        return [checkpoint.step == self.step for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints in `folder`: the two newest and the best are kept."""

    def __init__(self, folder: Path, *, read_only: bool = False):
        self.folder = folder.resolve()
        if read_only and not self.folder.is_dir():
            raise RunError(
                f"{folder} is missing: this run has saved no checkpoint, or it is a published one, "
                "which keeps none. Train it first."
            )
        foreign.check_plain(folder)
        if not read_only and self.folder.is_dir():
            for child in self.folder.iterdir():
                if child.is_dir() and not any(
                    child.iterdir()
                ):  # Orbax would take an empty folder for a checkpoint
                    child.rmdir()
        self._best = _Best()
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
        own = jax.process_index()
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                # Of several processes each has checkpoints of its own, or none: Orbax is not to wait for the others.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=own, active_processes={own}
                ),
                create=False,
                # Of the newest two one may turn out damaged. Orbax' own ranking by metrics would need a file more.
                preservation_policy=AnyPreservationPolicy([LatestN(2), self._best]),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
            ),
            item_names=(*TREES, "progress"),
        )

    def save(self, step: int, *, model: Any, training: Any, progress: dict[str, Any]) -> None:
        """Starts to write the trees (of NumPy arrays that nobody writes to) as the checkpoint of `step`.

        `progress` is JSON-ready; its "best_step" is the step to keep as the best.
        """
        self._best.step = progress["best_step"]
        hashes = {"model": trees.digest(model), "training": trees.digest(training)}
        saved = self._manager.save(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardSave(model),
                training=ocp.args.StandardSave(training),
                progress=ocp.args.JsonSave(
                    {"progress": progress, "hashes": hashes, "progress_hash": _digest(progress)}
                ),
            ),
        )
        if not saved:
            raise RunError(
                f"{self.folder} holds a checkpoint of step {step} or later: nothing was saved."
            )

    def restore(
        self, expected: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> tuple[int, Any, Any, dict[str, Any]] | None:
        """(step, model, training, progress) of the newest checkpoint that is whole, or None where there is none.

        expected: gives for the progress {"model": ..., "training": ...}, trees of the expected shapes. What is damaged
        is put aside with a warning: training does that part again. Raises RunError where the best is damaged, since
        that part is not done again.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            begun = self._try(step, {})
            restored = begun and self._try(step, expected(begun["progress"]))
            if restored:
                self._best.step = restored["progress"]["best_step"]
                self._check_best(step)
                return step, restored["model"], restored["training"], restored["progress"]
            self._put_aside(step)
        return None

    def _put_aside(self, step: int) -> None:
        """What cannot be read here, someone may be able to read elsewhere: it is not deleted."""
        aside = self.folder / f"damaged-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        (self.folder / str(step)).rename(aside)
        log.warning(
            "It now lies in %s, which can be deleted; training does again what it held.", aside
        )
        self._manager.reload()

    def _check_best(self, newest: int) -> None:
        best, steps = self._best.step, self._manager.all_steps()
        if not 0 < best < newest:
            return
        if best not in steps:
            log.warning(
                "%s is missing, the best checkpoint: should none that follows be better, the newest is kept.",
                self.folder / str(best),
            )
        elif not self._try(best, {"model": None}):
            raise RunError(
                f"{self.folder / str(best)}, the best checkpoint, is damaged; {newest}, the newest, is whole. Put it "
                f"back from a copy; or delete {self.folder} to train again from the start, to the same result; or "
                f"delete {self.folder / str(best)} to go on without it, which keeps the newest unless a better follows."
            )

    def restore_best(self, model: Any = None) -> tuple[int, Any]:
        """(step, model) of the best checkpoint; where it is damaged, with a warning, of the newest that is whole.

        model: a tree of the expected shapes; None takes whatever was saved. Raises RunError where there is none.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        best = next(
            (newest["progress"]["best_step"] for step in steps if (newest := self._try(step, {}))),
            -1,
        )
        for step in sorted(steps, key=lambda step: step == best, reverse=True):
            if restored := self._try(step, {"model": model}):
                return step, restored["model"]
        raise RunError(
            f"{self.folder} holds no whole checkpoint of this model: delete the run folder and train again."
        )

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.close()

    def _try(self, step: int, expected: dict[str, Any]) -> dict[str, Any] | None:
        """The progress and the trees of `expected` names and shapes; None, with a warning, where they are not whole."""
        try:
            arguments = {name: ocp.args.StandardRestore(tree) for name, tree in expected.items()}
            restored = self._manager.restore(
                step, args=ocp.args.Composite(**arguments, progress=ocp.args.JsonRestore())
            )
            saved = restored["progress"]
            if saved.get("progress_hash") not in (
                None,
                _digest(saved["progress"]),
            ):  # None: of an older version
                raise ValueError("the SHA-256 of its progress is not the one saved with it")
            for name, tree in expected.items():
                if tree is not None and jax.tree.map(np.shape, restored[name]) != jax.tree.map(
                    np.shape, tree
                ):
                    raise ValueError(f"its {name} arrays have other shapes than this model's")
                if trees.digest(restored[name]) != saved["hashes"][name]:
                    raise ValueError(
                        f"the SHA-256 of its {name} arrays is not the one saved with it"
                    )
            return {"progress": saved["progress"]} | {name: restored[name] for name in expected}
        except Exception as error:  # whatever Orbax raises for a damaged one, another may be whole
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            log.warning("Checkpoint %s is damaged (%s).", self.folder / str(step), reason)
            return None


def _digest(progress: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(progress, sort_keys=True).encode()).hexdigest()


def shapes(tree: Any) -> Any:
    """The tree as NumPy arrays without content, which tells Orbax to restore NumPy arrays of those shapes."""
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)
