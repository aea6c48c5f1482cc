"""What `publish` keeps of runs, and what commands make of it."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from imgcls_jax import commands
from imgcls_jax.errors import RunError
from imgcls_jax.reporting import index
from imgcls_jax.run import publish, resuming
from imgcls_jax.run.folder import RunFolder
from tests.badinput.test_commands import finished, run  # noqa: F401  fixtures

ROOT = Path(__file__).parents[1]


def test_half_precision_keeps_every_predicted_class():
    """Also where the two largest probabilities are equal in float16."""
    random = np.random.default_rng(0)
    close = random.uniform(0.49, 0.49 + 1e-4, (20_000, 2))
    probabilities = np.empty((20_000, 4))
    probabilities[:, :2] = close
    probabilities[:, 2:] = (1 - close.sum(-1, keepdims=True)) / 2
    probabilities = probabilities.astype(np.float32)
    rounded = publish.half_precision(probabilities)
    assert rounded.dtype == np.float16
    naive = probabilities.astype(np.float16).argmax(-1)
    predicted = probabilities.argmax(-1)
    assert (naive != predicted).sum() > 100
    assert (rounded.argmax(-1) == predicted).all()
    assert np.abs(rounded - probabilities).max() < 2**-11


def test_what_is_kept_of_a_run(run):  # noqa: F811
    target = publish.publish(run.path)
    kept = {path.name for path in target.iterdir()} - {".lock"}
    assert kept <= {*publish.OF_RUNS, "predictions.npz"}
    assert {"config.json", "test.json", "metrics.jsonl", "dashboard.png"} <= kept
    with np.load(target / "predictions.npz") as arrays:
        assert arrays["probabilities"].dtype == arrays["validation_probabilities"].dtype == "f2"
    for before, after in (
        (run.predictions, RunFolder(target).predictions),
        (run.validation_predictions, RunFolder(target).validation_predictions),
    ):
        assert after[0].dtype == np.float32
        assert np.array_equal(before[0].argmax(-1), after[0].argmax(-1))
        assert np.array_equal(before[1], after[1])


def test_what_is_published_names_no_folder_of_the_machine(run, tmp_path):  # noqa: F811
    weights = tmp_path / "caf\N{LATIN SMALL LETTER E WITH ACUTE}" / "weights.h5"
    weights.parent.mkdir()
    weights.touch()
    here = Path.cwd()
    config = run.read_json("config.json")
    config["model"]["pretrained"] = str(weights)
    config["adapt"]["trainable"] = ["/conv/kernel"]
    environment = run.read_json("environment.json")
    config["data"]["path"] = str(tmp_path / "my photos")
    (tmp_path / "my photos").mkdir()
    run.write_json("config.json", config)
    options = [f"--config.model.pretrained={weights}", f"--config.data.path={tmp_path}/my photos"]
    environment["command"] = shlex.join([f"{here}/launch.py", *options, "--name=a/b"])
    (here / "launch.py").touch()
    run.write_json("environment.json", environment)
    target = RunFolder(publish.publish(run.path))
    relative = os.path.relpath(weights)
    config["model"]["pretrained"] = relative
    config["data"]["path"] = os.path.relpath(tmp_path / "my photos")
    assert target.read_json("config.json") == config
    command = target.environment["command"]
    photos = config["data"]["path"]
    options = [f"--config.model.pretrained={relative}", f"--config.data.path={photos}"]
    assert command == shlex.join(["launch.py", *options, "--name=a/b"])


def test_published_again_it_has_nothing_of_the_run_before(run):  # noqa: F811
    figures = {"clean": 0.5, "mean": 0.25, "examples": 9, "corruptions": {"fog": [0.25] * 5}}
    run.write_json("robustness.json", figures)
    target = publish.publish(run.path)
    commands.report.report([str(target)])  # draws robustness.png, which is not kept
    assert {"robustness.json", "robustness.png", "report.html"} <= {
        file.name for file in target.iterdir()
    }
    (run.path / "robustness.json").unlink()
    publish.publish(run.path)
    assert not {"robustness.json", "report.html"} & {file.name for file in target.iterdir()}


def test_a_text_that_is_not_utf8_is_published_as_far_as_it_can_be_read(run):  # noqa: F811
    (run.path / "robustness.md").write_bytes(b"caf\xe9\n")
    target = publish.publish(run.path)
    assert (target / "robustness.md").read_text() == "caf\N{REPLACEMENT CHARACTER}\n"


def test_a_published_run_is_a_finished_one(run, caplog):  # noqa: F811
    caplog.set_level("INFO", "imgcls_jax")
    published = RunFolder(publish.publish(run.path))
    assert published.published and published.finished and not run.published
    assert resuming.finished(run.config, published)
    assert f"imgcls report {published.path} writes it" in caplog.text
    assert f"{published.name}</th>" in index.write(published.path.parent).read_text()


def test_its_page_can_be_written_again_and_leaves_its_figures_alone(run):  # noqa: F811
    target = publish.publish(run.path)
    before = {path.name: path.read_bytes() for path in target.glob("*.*") if path.suffix != ".png"}
    commands.report.report([str(target)])
    assert "Calibration" in (target / "report.html").read_text()
    assert {name: (target / name).read_bytes() for name in before} == before


def test_what_takes_weights_says_that_a_published_run_has_none(run):  # noqa: F811
    target = publish.publish(run.path)
    with pytest.raises(RunError, match="saved no checkpoint, or it is a published one"):
        commands.robustness.robustness([str(target)])


@pytest.mark.parametrize(
    "name",
    [
        "runs/quickstart/report.html",
        "images/drawn/7/0.png",
        "predictions.jsonl",
        "results/quickstart/test.json",
        "results/own_photos/test.json",
    ],
)
def test_what_the_commands_of_the_readme_write_is_ignored(name):
    ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT)
    assert ignored.returncode == 0


def test_links_to_results_lead_to_files_that_git_keeps():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    kept = {Path(name) for name in tracked}
    kept |= {parent for name in kept for parent in name.parents}
    links = 0
    for document in sorted(name for name in kept if name.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / document).read_text()):
            path = Path(os.path.normpath(document.parent / target))
            if "://" not in target and path.is_relative_to("results"):
                assert path in kept, f"{document}: {target}"
                links += 1
    assert links > 30
