"""The folder of an ensemble: it has what a run's folder has of its test set, and no training."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls_jax.errors import RunError
from imgcls_jax.run.folder import ENSEMBLE, RunFolder


def voters(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the members of ensemble.json whose weight is not 0."""
    return [member for member in summary["members"] if member["weight"]]


def count_parameters(summary: Mapping[str, Any]) -> int:
    """Returns the parameters of all voters of ensemble.json together."""
    return sum(member["parameters"] for member in voters(summary))


def path_from(home: Path, run: RunFolder) -> str:
    """Returns the path of the run's folder from the folder `home`."""
    return os.path.relpath(run.path.resolve(), home.resolve())


class EnsembleFolder(RunFolder):
    """An ensemble's folder. Properties raise RunError as those of RunFolder do."""

    @property
    def summary(self) -> dict[str, Any]:
        """What ensemble.json holds (`evaluation.ensemble.vote`)."""
        return self.read_json(ENSEMBLE)

    @property
    def test(self) -> dict[str, Any]:
        """The scores on the test set, and `parameters` of all voters together."""
        summary = self.summary
        return {**summary["test"], "parameters": count_parameters(summary)}

    @property
    def data(self) -> dict[str, Any]:
        """Of the data report that its members have: the classes, and what the test set is."""
        summary = self.summary
        if "test_fingerprint" not in summary:
            raise RunError(
                f"{self.path / ENSEMBLE} is of an older version, which did not keep what its test "
                "set was. Make the ensemble again: python -m imgcls_jax ensemble RUN RUN..."
            )
        scores = summary["test"]
        test = {"examples": scores["examples"], "fingerprint": summary["test_fingerprint"]}
        class_names = [row["name"] for row in scores["per_class"]]
        return {"class_names": class_names, "splits": {"test": test}}

    @property
    def history(self) -> list[dict[str, Any]]:
        """Nothing: an ensemble was not trained."""
        return []

    @property
    def environment(self) -> dict[str, Any]:
        """Nothing: its members may be of several."""
        return {}
