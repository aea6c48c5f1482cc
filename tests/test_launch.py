"""launch.py as users run it: real processes, scikit-learn's digits."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from limits import HANGS

from imgcls_jax.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
FILES = (
    "config.json",
    "environment.json",
    "data.json",
    "metrics.jsonl",
    "test.json",
    "predictions.npz",
    "report.html",
    "dashboard.png",
    "samples.png",
    "curves.png",
    "confusion.png",
    "mistakes.png",
)
# Small enough to train in seconds, with everything on that a resumed run could get wrong.
SMALL = """
from configs import base

def get_config():
    config = base.get_config()
    config.data.source = config.data.name = "digits"
    config.data.transform = "random_crop(1)"
    config.model.name = "attention"
    config.train.update(epochs=12, batch_size=32, eval_batch_size=64)
    config.train.update(steps_per_dispatch=5, early_stopping=9)
    config.schedule.update(name="plateau", patience=1, factor=0.7)
    return config
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "small.py"
    path.write_text(SMALL)
    return path


def command(config, workdir, *options):
    return [
        sys.executable,
        "launch.py",
        "--config",
        str(config),
        "--workdir",
        str(workdir),
        *options,
    ]


def launch(config, workdir, *options, devices: int = 1, code: int = 0) -> str:
    """Runs launch.py to its end and returns what it printed."""
    run = subprocess.run(
        command(config, workdir, *options),
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr


def environment(devices: int = 1):
    return os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def hashes(workdir):
    steps = sorted(
        int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()
    )
    return {
        step: RunFolder(workdir / "checkpoints" / str(step)).read_json("progress/metadata")[
            "hashes"
        ]
        for step in steps
    }


def without_times(run: RunFolder):
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "images_per_second")}
        for line in run.history
    ]


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """An undisturbed run, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return RunFolder(workdir), launch(config, workdir)


def test_a_run_folder_is_complete(finished):
    run, printed = finished
    for name in FILES:
        assert (run.path / name).stat().st_size > 50, name
    assert "epoch 12/12" in printed
    assert str(run.path / "report.html") in printed
    probabilities, labels = run.predictions
    assert run.test["accuracy"] == (probabilities.argmax(1) == labels).mean() > 0.8
    assert run.environment["data_fingerprint"] == run.data["fingerprint"]
    kept = next(line for line in run.history if line["epoch"] == run.test["best_epoch"])
    assert run.test["train_accuracy"] == kept["train_accuracy"]
    parameters = run.test["parameters"]
    assert f"Trainable: {parameters:,} parameters." in printed
    blocks = re.findall(r"^  \w+ +([\d,]+)$", printed, re.MULTILINE)
    assert parameters == sum(int(count.replace(",", "")) for count in blocks)


def of_folders(mode, *arguments, code: int = 0) -> str:
    """Runs a mode that takes run folders, and returns what it printed."""
    run = subprocess.run(
        [sys.executable, "launch.py", "--mode", mode, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_robustness_and_report_need_the_run_folder_alone(finished, tmp_path):
    copied = tmp_path / "moved"
    shutil.copytree(finished[0].path, copied)
    printed = of_folders("robustness", "--limit=50", copied)
    assert "| Gaussian noise |" in printed
    assert "on 50 images" in printed
    assert str(copied / "robustness.png") in printed
    assert "Accuracy in percent at severities 1 to 5" in (copied / "report.html").read_text()
    for name in ("report.html", "dashboard.png"):
        (copied / name).unlink()
    of_folders("report", copied)
    assert "Gaussian noise" in (copied / "report.html").read_text()
    assert (copied / "dashboard.png").exists()

    data = RunFolder(copied).data
    RunFolder(copied).write_json("data.json", data | {"fingerprint": "0" * 64})
    assert "was made of other data" in of_folders("report", copied, code=2)
    assert "is missing" in of_folders("robustness", tmp_path / "nothing", code=2)
    assert "arguments are required: RUN" in of_folders("report", code=2)


def test_explain_needs_the_run_folder_alone(finished, tmp_path):
    """This run's features are no map: refused with the method that serves, which then does."""
    copied = tmp_path / "moved"
    shutil.copytree(finished[0].path, copied)
    printed = of_folders("explain", copied, code=2)
    assert "moved: the features of the model SelfAttention are 8x64" in printed
    assert "--method saliency" in printed
    assert not (copied / "explain.png").exists()
    assert str(copied / "explain.png") in of_folders("explain", "--method=saliency", copied)
    explanation = RunFolder(copied).read_json("explain.json")
    probabilities, labels = finished[0].predictions
    assert explanation["method"] == "saliency" and len(explanation["examples"]) > 12
    for example in explanation["examples"]:
        assert (example["label"], example["prediction"]) == (
            labels[example["index"]],
            probabilities[example["index"]].argmax(),
        )
    assert "What the model looks at" in (copied / "report.html").read_text()
    assert "Did you mean 'gradcam'" in of_folders("explain", "--method=gradcm", copied, code=2)


def test_predict_prints_a_line_for_each_image(finished, tmp_path):
    """Digits of the run's data as files; the same on paper; one in 16 bits and large; no image."""
    from PIL import Image
    from sklearn.datasets import load_digits

    run, photos = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(finished[0].path, run)
    digits, labels = (
        np.round(load_digits().images * (255 / 16)).astype(np.uint8),
        load_digits().target,
    )
    for i in range(20):
        for name, image in (("white", digits[i]), ("paper", 255 - digits[i])):
            folder = photos / name / str(labels[i])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:02}.png")
    Image.fromarray(digits[0].repeat(6, 0).repeat(6, 1).astype(np.uint16) * 257).save(
        photos / "deep.png"
    )
    (photos / "broken.png").write_text("no image")

    images = [
        "--images",
        photos / "broken.png",
        photos / "paper",
        f"{photos}/white/*/*.png",
        photos / "deep.png",
    ]
    command = [sys.executable, "launch.py", "--mode", "predict", str(run), *map(str, images)]
    process = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=HANGS
    )
    assert process.returncode == 2 and "Traceback" not in process.stderr, process.stderr
    assert "error: 1 of 42 images could not be read" in process.stderr
    assert "20 of them inverted" in process.stderr

    broken, *lines = map(json.loads, process.stdout.splitlines())
    assert broken["image"] == str(photos / "broken.png")
    assert "cannot be read as an image" in broken["error"]
    paper, white = lines[:20], lines[20:40]
    assert [line["image"] for line in paper] == sorted(map(str, photos.glob("paper/*/*")))
    for dark, light in zip(paper, white, strict=True):
        assert dark["inverted"] and not light["inverted"] and dark["top"] == light["top"]
        assert len(dark["top"]) == 5 and dark["top"][0] == [dark["class"], dark["confidence"]]
    right = sum(line["class"] == line["image"].split("/")[-2] for line in lines[:40])
    assert right >= 32
    assert any(
        line.split()[:3] == ["all", "40", str(right)] for line in process.stderr.splitlines()
    )
    assert lines[40]["image"] == str(photos / "deep.png") and lines[40]["class"] == str(labels[0])
    assert (run / "predicted.png").stat().st_size > 2000
    assert str(run / "predicted.png") in process.stderr
    assert "arguments are required: IMAGE" in of_folders("predict", run, code=2)


def test_show_data_draws_a_batch_and_the_folder_can_be_trained_into(config, tmp_path):
    printed = launch(config, tmp_path / "run", "--mode=show_data")
    assert "32x8x8x1" in printed and (tmp_path / "run" / "show_data.png").stat().st_size > 2000
    launch(config, tmp_path / "run", "--config.train.epochs=1")
    message = launch(
        config, tmp_path / "run", "--mode=show_data", "--config.data.transform=flop", code=2
    )
    assert "'flop' (operation 1, at character 1)" in message and "Did you mean 'flip'" in message


def test_tensorboard_holds_scalars_texts_hparams_and_images(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = finished
    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0, "images": 0}).Reload()
    losses = events.Tensors("loss/train")
    assert [event.step for event in losses] == [line["step"] for line in run.history]
    tags = set(events.Tags()["tensors"])
    assert {
        "accuracy/validation",
        "accuracy/test",
        "training/learning_rate",
        "config",
        "samples",
        "confusion",
    } <= tags
    assert "training/phase" not in tags
    assert events.PluginTagToContent("hparams")


def test_a_finished_run_prints_its_figures_and_trains_no_more(config, finished):
    run, _ = finished
    before = (run.path / "metrics.jsonl").stat().st_mtime_ns
    printed = launch(config, run.path)
    assert "is finished" in printed and f"{run.test['accuracy']:.2%}" in printed
    assert (run.path / "metrics.jsonl").stat().st_mtime_ns == before


def test_killed_at_random_moments_it_ends_with_the_same_bits(config, finished, tmp_path):
    """SIGKILL four times, SIGTERM and SIGINT once each, at random moments of training."""
    whole, _ = finished
    moments = random.Random(20)
    interrupted = []
    for stop in (
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGKILL,
        signal.SIGINT,
        signal.SIGKILL,
        signal.SIGKILL,
    ):
        process = subprocess.Popen(
            command(config, tmp_path / "run"), cwd=ROOT, env=environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        begun = tmp_path / "run" / "metrics.jsonl"
        lines = begun.read_text().count("\n") if begun.exists() else 0
        while process.poll() is None and not (
            begun.exists() and begun.read_text().count("\n") > lines
        ):
            time.sleep(0.02)  # until it has trained an epoch more than the one before
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(stop)
        printed, _ = process.communicate(timeout=HANGS)
        if process.returncode == 0:
            break  # it was quicker
        interrupted.append(process.returncode)
        if stop != signal.SIGKILL:
            assert process.returncode == 128 + stop, printed
            assert "The same command resumes" in printed and "--workdir" in printed
    assert len(interrupted) >= 3, "the run is too short to be interrupted"
    printed = launch(config, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    kept, expected = hashes(run.path), hashes(whole.path)
    # A run that was stopped within its last epoch keeps that checkpoint too, as one of the newest.
    common = kept.keys() & expected.keys()
    assert {max(expected), whole.test["best_step"]} <= common
    assert all(kept[step] == expected[step] for step in common)
    assert without_times(run) == without_times(whole)
    measured = ("train_seconds", "seconds_per_epoch", "peak_memory")
    assert run.test | dict.fromkeys(measured) == whole.test | dict.fromkeys(measured)


def test_one_two_and_eight_devices_give_the_same_losses(config, tmp_path):
    """Up to float32 rounding. With momentum: Adam divides by the gradient, and magnifies rounding."""
    options = [
        "--config.train.epochs=3",
        "--config.optimizer.name=sgd",
        "--config.optimizer.momentum=.9",
        "--config.optimizer.learning_rate=.02",
    ]
    losses = []
    for devices in (1, 2, 8):
        launch(config, tmp_path / str(devices), *options, devices=devices)
        run = RunFolder(tmp_path / str(devices))
        assert run.environment["device_count"] == devices
        losses.append([(line["train_loss"], line["validation_loss"]) for line in run.history])
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)
    assert losses[0][-1][0] < 0.8 * losses[0][0][0]


def test_a_folder_with_another_run_or_other_files_is_refused(config, finished, tmp_path):
    run, _ = finished
    printed = launch(config, run.path, "--config.train.batch_size=16", "--config.seed=3", code=2)
    assert "another config" in printed
    assert "train.batch_size: 32 there, 16 now" in printed
    assert "seed: 0 there, 3 now" in printed
    assert "optimizer" not in printed
    (tmp_path / "letter.txt").write_text("")
    assert "holds other files and no run" in launch(config, tmp_path, code=2)


def test_publish_and_compare(config, finished, tmp_path):
    run, _ = finished
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def in_folder(*arguments):
        return subprocess.run(
            [sys.executable, ROOT / "launch.py", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    assert in_folder("--mode", "publish", str(run.path)).returncode == 0
    published = tmp_path / "results" / run.name
    assert json.loads((published / "test.json").read_text()) == run.test
    assert (published / "dashboard.png").exists()
    assert not (published / "report.html").exists()
    assert sorted(path.name for path in published.iterdir() if path.is_dir()) == []
    assert sum(path.stat().st_size for path in published.iterdir()) < 1_000_000
    compared = in_folder("--mode", "compare", str(run.path))
    assert f"{run.test['accuracy'] * 100:.2f}" in compared.stdout
    missing = in_folder("--mode", "publish", "nothing")
    assert missing.returncode == 2 and "neither a run folder nor a study" in missing.stderr


@pytest.mark.parametrize(
    "options, messages",
    [
        (["--config.optimizer.learning_rat=.1"], ["learning_rat", 'Did you mean "learning_rate"']),
        (["--config.data.path=nowhere", "--config.data.source=csv"], ["nowhere"]),
        (["--config.data.source=tfd"], ["Did you mean 'tfds'"]),
        (["--config.data.validation_size=5000"], ["data.validation_size", "5000"]),
        (["--config.data.transform=flop"], ["'flop'", "flip"]),
        (["--config.model.name=atention"], ["Did you mean 'attention'"]),
        (["more"], ["'more' is not understood"]),
    ],
)
def test_bad_input_is_refused_before_training(config, tmp_path, options, messages):
    printed = launch(config, tmp_path / "run", *options, code=2)
    assert all(message in printed for message in messages) and "Traceback" not in printed, printed
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_batch_size_must_fit_the_devices(config, tmp_path):
    printed = launch(config, tmp_path / "run", "--config.train.batch_size=33", devices=2, code=2)
    assert "train.batch_size is 33" in printed and "2 devices" in printed
    launch(
        config, tmp_path / "run", "--config.train.epochs=1", devices=2
    )  # what was refused is in nobody's way


def test_a_missing_config_names_those_there_are():
    run = subprocess.run([sys.executable, "launch.py"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "--config is missing" in run.stderr
    assert "quickstart" in run.stderr


def test_help_and_tensorflow_is_not_imported():
    printed = subprocess.run(
        [sys.executable, "launch.py", "--help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert "configs/quickstart.py" in printed
    code = (
        "import sys, imgcls_jax.commands, imgcls_jax.commands.study, imgcls_jax.training.loop\n"
        "import imgcls_jax.evaluation.predict\n"
        "import imgcls_jax.reporting.run_report, imgcls_jax.reporting.compare, imgcls_jax.data\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
