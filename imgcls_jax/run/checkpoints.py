"""Checkpoints of a run: Orbax, and the SHA-256 of everything saved, which Orbax does not keep.

A checkpoint holds two trees of NumPy arrays, `model` (what prediction needs) and `training` (the
rest of the state), and the progress of the training loop with the hashes of all three. Orbax writes
in the background and renames last, so that a killed process leaves only whole checkpoints; the
hashes detect what was damaged later.
"""

import hashlib
import json
import logging
import math
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
KEPT = 2  # of the newest checkpoints: one may turn out damaged
COMPRESSION = 1_000  # of files with a run's arrays: zeros alone are compressed more
Content = dict[str, Any]  # of a checkpoint, by the names of its items


class _KeepBest:
    """Orbax' preservation policy that keeps the checkpoint of the best step so far."""

    step = -1

    def should_preserve(self, checkpoints, *, context):
        return [checkpoint.step == self.step for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints in `folder`: the newest two and the best are kept."""

    def __init__(self, folder: Path, *, read_only: bool = False):
        self.folder = folder.resolve()
        if read_only and not self.folder.is_dir():
            raise RunError(
                f"{folder} is missing: this run has saved no checkpoint, or it is a published one, "
                "which keeps none. Train it first."
            )
        foreign.check_plain(folder)
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove_empty(self.folder)
        self._best = _KeepBest()
        self._manager = _manager(self.folder, best=self._best, read_only=read_only)

    def save(self, step: int, *, model: Any, training: Any, progress: Content) -> None:
        """Starts to write the checkpoint of `step`.

        model, training: trees of NumPy arrays that are not written to from now on. progress: ready
        for JSON; its "best_step" is the step to keep as the best. Raises RunError if there is a
        checkpoint of this or a later step.
        """
        self._best.step = progress["best_step"]
        record = {
            "progress": progress,
            "hashes": {
                "model": trees.digest(model),
                "training": trees.digest(training),
            },
            "progress_hash": _digest(progress),
        }
        is_saved = self._manager.save(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardSave(model),
                training=ocp.args.StandardSave(training),
                progress=ocp.args.JsonSave(record),
            ),
        )
        if not is_saved:
            raise RunError(
                f"{self.folder} holds a checkpoint of step {step} or later: nothing was saved."
            )

    def restore(
        self, expected: Callable[[Content], Content]
    ) -> tuple[int, Any, Any, Content] | None:
        """Returns (step, model, training, progress) of the newest whole checkpoint, None without.

        expected: given the progress, returns {"model": tree, "training": tree} of the expected
        shapes. A damaged checkpoint is moved aside with a warning, since training repeats that
        part. Raises RunError if the best checkpoint is damaged, since that part is not repeated.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            restored = self._restore_whole(step, expected)
            if restored is not None:
                progress = restored["progress"]
                self._best.step = progress["best_step"]
                self._check_best(newest=step)
                return step, restored["model"], restored["training"], progress
            self._move_aside(step)
        return None

    def restore_best(self, model: Any = None) -> tuple[int, Any]:
        """Returns (step, model) of the best checkpoint, or, with a warning, the newest whole one.

        model: a tree of the expected shapes; None accepts any. Raises RunError if no checkpoint is
        whole.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        best = self._best_step(steps)
        if best in steps:
            steps.remove(best)
            steps.insert(0, best)
        for step in steps:
            restored = self._try(step, {"model": model})
            if restored is not None:
                return step, restored["model"]
        raise RunError(
            f"{self.folder} holds no whole checkpoint of this model: delete the run folder and "
            "train again."
        )

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.close()

    def _restore_whole(self, step: int, expected: Callable[[Content], Content]) -> Content | None:
        begun = self._try(step, {})  # the progress alone, on which the shapes depend
        if begun is None:
            return None
        return self._try(step, expected(begun["progress"]))

    def _best_step(self, steps: list[int]) -> int | None:
        """The best step according to the newest checkpoint whose progress can be read."""
        for step in steps:
            restored = self._try(step, {})
            if restored is not None:
                return restored["progress"]["best_step"]
        return None

    def _move_aside(self, step: int) -> None:
        """Renames a damaged checkpoint, which somebody may still be able to read elsewhere."""
        aside = self.folder / f"damaged-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        (self.folder / str(step)).rename(aside)
        log.warning("It is now %s, which can be deleted; training repeats what it held.", aside)
        self._manager.reload()

    def _check_best(self, *, newest: int) -> None:
        """Raises RunError if the best checkpoint is damaged; warns if it is missing."""
        best = self._best.step
        if not 0 < best < newest:
            return
        path = self.folder / str(best)
        if best not in self._manager.all_steps():
            log.warning(
                "%s is missing, the best checkpoint: unless a later one is better, the newest is "
                "kept.",
                path,
            )
        elif self._try(best, {"model": None}) is None:
            raise RunError(
                f"{path}, the best checkpoint, is damaged; {newest}, the newest, is whole. Put it "
                f"back from a copy; or delete {self.folder} to train again from the start, to the "
                f"same result; or delete {path} to continue without it, which keeps the newest "
                "unless a later one is better."
            )

    def _try(self, step: int, expected: Content) -> Content | None:
        """The progress and the expected trees of a checkpoint; None, with a warning, if damaged.

        expected: by the tree's name, a tree of the expected shapes, or None for any.
        """
        try:
            return self._read(step, expected)
        except Exception as error:  # Orbax raises anything; another checkpoint may be whole
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            log.warning("Checkpoint %s is damaged (%s).", self.folder / str(step), reason)
            return None

    def _read(self, step: int, expected: Content) -> Content:
        """Raises ValueError if shapes or hashes differ, and whatever Orbax raises."""
        arguments = {"progress": ocp.args.JsonRestore()}
        for name, tree in expected.items():
            self._check_size(step, name, tree)
            arguments[name] = ocp.args.StandardRestore(tree)
        restored = self._manager.restore(step, args=ocp.args.Composite(**arguments))
        record = restored["progress"]
        progress_hash = record.get("progress_hash")
        if progress_hash is not None and progress_hash != _digest(record["progress"]):
            raise ValueError("the SHA-256 of its progress is not the one saved with it")
        content = {"progress": record["progress"]}
        for name, tree in expected.items():
            if tree is not None and _shapes_of(restored[name]) != _shapes_of(tree):
                raise ValueError(f"its {name} arrays have other shapes than this model's")
            if trees.digest(restored[name]) != record["hashes"][name]:
                raise ValueError(f"the SHA-256 of its {name} arrays is not the one saved with it")
            content[name] = restored[name]
        return content

    def _check_size(self, step: int, name: str, tree: Any) -> None:
        """Raises ValueError if reading would take much more memory than the tree has.

        A small file may hold arrays of any size: what is not stored is read as zeros. If the tree
        is None, its size may be a large multiple of the files'.
        """
        folder = self.folder / str(step) / name
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=_alone())
        arrays = jax.tree.leaves(handler.metadata(folder).tree)
        found = sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
        if tree is None:
            files = [file for file in folder.rglob("*") if file.is_file()]
            most = COMPRESSION * sum(file.stat().st_size for file in files)
        else:
            most = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        if found > most:
            raise ValueError(f"its {name} arrays take {found:,} bytes, more than {most:,}")


def shapes(tree: Any) -> Any:
    """The tree with uninitialised NumPy arrays, which tell Orbax what to restore."""
    return jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), tree)


def _manager(folder: Path, *, best: _KeepBest, read_only: bool) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        multiprocessing_options=_alone(),
        create=False,
        # Orbax' own ranking by metrics would need another file.
        preservation_policy=AnyPreservationPolicy([LatestN(KEPT), best]),
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
    )
    return ocp.CheckpointManager(folder, options=options, item_names=(*TREES, "progress"))


def _alone() -> ocp.options.MultiprocessingOptions:
    """Each process has checkpoints of its own, or none: Orbax must not wait for the others."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})


def _remove_empty(folder: Path) -> None:
    """Removes empty folders, which Orbax would take for checkpoints."""
    for child in folder.iterdir():
        if child.is_dir() and not any(child.iterdir()):
            child.rmdir()


def _shapes_of(tree: Any) -> Any:
    return jax.tree.map(np.shape, tree)


def _digest(progress: Content) -> str:
    text = json.dumps(progress, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
