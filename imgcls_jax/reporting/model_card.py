"""The model card of an exported run (Mitchell et al., 2019, arXiv:1810.03993): README.md.

Everything in it is read from the run's folder. The lines between the dashes are for the Hugging Face
hub. The text is in templates/model_card.md.j2.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import jax

from imgcls_jax.config import trial
from imgcls_jax.config.options import flat_options
from imgcls_jax.data import HELD_OUT, OWN
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.views import VIEWS
from imgcls_jax.evaluation.export import PLATFORMS, PROGRAM, WEIGHTS
from imgcls_jax.evaluation.onnx import INT8_MODEL, MODEL
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import (
    calibration,
    card_use,
    formats,
    onnx_card,
    robustness,
    tables,
    templates,
)
from imgcls_jax.reporting.plain_tables import Markdown, code, escape, markdown_table
from imgcls_jax.run.folder import CALIBRATION, ROBUSTNESS, RunFolder

CARD = "README.md"
# Options that make a recipe, with their names in the card; those that are off are left out.
RECIPE = {
    "model.pretrained": "Weights it starts from",
    "data.transform": "Images, after division by 255",
    "train.epochs": "Epochs, at most",
    "train.early_stopping": "Epochs without improvement that end it",
    "train.batch_size": "Batch size",
    "optimizer.name": "Optimizer",
    "optimizer.learning_rate": "Peak learning rate",
    "optimizer.weight_decay": "Weight decay",
    "schedule.name": "Schedule",
    "schedule.warmup_epochs": "Epochs of warm-up",
    "train.label_smoothing": "Label smoothing",
    "train.class_weights": "Class weights",
    "train.focal_gamma": "Gamma of focal loss",
    "train.logit_adjustment": "Logit adjustment",
    "train.balanced_sampling": "How much sampling balances the classes, 0 to 1",
    "train.ema_decay": "Decay per step of the running average kept",
    "adapt.trainable": "What trains, by path",
    "adapt.last_layers": "Last layers that train",
    "adapt.lora.targets": "Kernels with low-rank pairs (LoRA)",
    "adapt.lora.rank": "Rank of the pairs",
}
CHOSE = "The model was not trained on them; they chose the epoch whose weights are kept."
# What the card says of a split, by its origin in the data report.
VALIDATION = {
    OWN: f"The validation images are the validation set of the source. {CHOSE}",
    HELD_OUT: (
        f"The validation images were taken out of the training images before training. {CHOSE}"
    ),
}
FINAL = (
    "The model was not trained on the test images and nothing was chosen by them: the run read "
    "them once, when its weights were final."
)
TEST = {
    OWN: f"The test images are the test set of the source. {FINAL}",
    HELD_OUT: f"The test images were taken out of the training images before training. {FINAL}",
}
# A path that is absolute, or leads out of the working directory; in a command's word.
OUTER_PATH = re.compile(r"(?:(?<=[=:,('\"])|^)(?:~|\.\.|/)[^:,)'\"]*")
MOST_CONFUSED = 5  # pairs of classes


def write(run: RunFolder, folder: Path) -> Path:
    """Writes the card of a tested run into the folder with its exported files; returns its path."""
    sections = {
        "Files": _files(run, folder),
        "Use": card_use.section(run, folder),
        "ONNX": onnx_card.section(folder),
        "Model details": _details(run),
        "Intended use": _parts().intended_use(_num_classes(run), _data_name(run)),
        "Training data": _data(run, _validation_note(run), splits=("train", "validation")),
        "Training": _training(run),
        "Evaluation data": _data(run, _test_note(run), splits=("test",)),
        "Results": _results(run),
        "Calibration": _calibration(run),
        "Robustness": _robustness(run),
        "Limits": _limits(run),
    }
    card = f"{_front_matter(run)}\n# {escape(run.name)}\n\n{_summary(run)}"
    for title, text in sections.items():
        if text:
            card += f"\n## {title}\n\n{text}"
    path = folder / CARD
    write_atomically(path, card.encode())
    return path


def _front_matter(run: RunFolder) -> str:
    test = run.test
    metrics = {
        "accuracy": test["accuracy"],
        "f1": test["macro"]["f1"],
        "loss": test["loss"],
    }
    return _parts().front_matter(
        name=_yaml(run.name),
        data=_yaml(_data_name(run)),
        metrics={name: f"{value:.6f}" for name, value in metrics.items()},
    )


def _yaml(text: str) -> Markdown:
    """The text as a string of YAML, which JSON's strings are too."""
    return Markdown(json.dumps(text))


def _summary(run: RunFolder) -> str:
    test = run.test
    return _parts().summary(
        size=_size(run),
        classes=_num_classes(run),
        model=code(run.config.model.name),
        data=_data_name(run),
        accuracy=formats.percent(test["accuracy"]),
        examples=f"{test['examples']:,}",
        loss=f"{test['loss']:.4f}",
        trial=trial.warning(run.config),
    )


def _files(run: RunFolder, folder: Path) -> str:
    arrays = f"uint8 images [b, {_shape(run)}] -> float32 logits [b, {_num_classes(run)}]"
    contents = {
        PROGRAM: f"{arrays}, for JAX on {', '.join(PLATFORMS)}",
        WEIGHTS: (
            "the weights by path; as JSON in its metadata: classes, preprocessing, shape of the "
            "images, all options"
        ),
        MODEL: f"{arrays}, in ONNX; its metadata have the classes and the temperature",
        INT8_MODEL: "the same with 8 bits for weights and activations",
    }
    rows = []
    for name, content in contents.items():
        if (folder / name).exists():
            megabytes = (folder / name).stat().st_size / 1e6
            rows.append((code(name), f"{megabytes:.2f} MB", content))
    table = markdown_table(("File", "Size", "Content"), rows)
    note = ""
    if (folder / PROGRAM).exists():
        note = _parts().program_note(jax.__version__, jax.default_backend())
    return _parts().files(Markdown(table), Markdown(note))


def _details(run: RunFolder) -> str:
    environment = run.environment
    config = run.config
    devices = environment.get("device_count", 1)
    device = environment.get("device", "an unnamed device")
    versions = environment.get("versions", {})
    rows = {
        "Model": config.model.name,
        "Parameters": _parameters_text(run),
        "Computes in": f"{config.train.precision}, with float32 weights",
        "Prediction": _prediction_text(run),
        "Trained on": f"{devices} x {device}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Commit": environment.get("commit") or "unknown",
        "Command": code(_public(environment.get("command", "unknown"))),
    }
    return markdown_table(("", ""), rows.items())


def _parameters_text(run: RunFolder) -> str:
    total = run.test["parameters"]
    trainable = run.test.get("trainable", total)
    text = f"{total:,}"
    if _has_lora(run):
        text += ", low-rank pairs included, which are merged in the files"
    trained = "all"
    if trainable < total:
        trained = f"{trainable:,}"
    return f"{text}; {trained} were trained{formats.when_trained(run.config)}"


def _prediction_text(run: RunFolder) -> str:
    views = run.config.train.tta
    if views == "none":
        return "one pass"
    return f"mean of the logits over {len(VIEWS[views])} views ({views})"


def _data(run: RunFolder, note: str, *, splits: Sequence[str]) -> str:
    described = run.data["splits"]
    rows = []
    for name in splits:
        if name in described:
            split = described[name]
            fingerprint = code(split["fingerprint"][:12])
            rows.append((name, f"{split['examples']:,}", fingerprint))
    table = markdown_table(("Split", "Images", "Fingerprint"), rows)
    source = code(run.config.data.source)
    return _parts().data(_data_name(run), source, note, Markdown(table))


def _validation_note(run: RunFolder) -> str:
    """Where the validation images come from; runs of older versions, which do not say, held them out."""
    origin = run.data.get("origin", {}).get("validation")
    return VALIDATION.get(origin, VALIDATION[HELD_OUT])


def _test_note(run: RunFolder) -> str:
    """Where the test images come from, which runs of older versions do not say."""
    origin = run.data.get("origin", {}).get("test")
    note = TEST.get(origin, FINAL)
    if "test" in run.data.get("learned_before", {}):
        note += " But runs that it starts or learns from were trained on some of them."
    return note


def _public(command: str) -> str:
    """Returns a command without the folders of the machine: `.../NAME` for a path out of its own."""
    try:
        words = shlex.split(command)
    except ValueError:  # of an older version, which did not quote its commands
        words = command.split()
    return shlex.join(_without_folders(word) for word in words)


def _without_folders(text: str) -> str:
    def shortened(match: re.Match) -> str:
        return f".../{PurePosixPath(match[0]).name}"

    return OUTER_PATH.sub(shortened, text)


def _training(run: RunFolder) -> str:
    test = run.test
    config = run.config
    options = flat_options(config.to_dict())
    if options.get("model.pretrained"):
        options["model.pretrained"] = _without_folders(options["model.pretrained"])
    rows = []
    for key, words in RECIPE.items():
        is_used = _has_lora(run) or not key.startswith("adapt.lora.")
        if options.get(key) and is_used:
            rows.append((words, code(formats.text(options[key]))))
    phases = config.get("adapt", {}).get("phases", {})
    for name, phase in sorted(phases.items()):
        changes = _changes(flat_options(phase))
        rows.append((f"Phase {name}", code(changes)))
    rows.append(("Seed", config.seed))
    rows.append(("Seed of the splits", config.data.split_seed))
    return _parts().training(
        table=Markdown(markdown_table(("", ""), rows)),
        best_epoch=test["best_epoch"],
        epochs=test["epochs"],
        duration=formats.duration(test["train_seconds"]),
    )


def _changes(options: Mapping[str, Any]) -> str:
    return "; ".join(f"{key} = {formats.text(value)}" for key, value in options.items())


def _results(run: RunFolder) -> str:
    test = run.test
    macro = [formats.percent(value) for value in test["macro"].values()]
    figures = [
        ("Images", f"{test['examples']:,}", _num_validation_images(run)),
        (
            "Accuracy",
            formats.percent(test["accuracy"]),
            formats.percent(test["validation_accuracy"]),
        ),
        (
            "Loss (cross entropy)",
            f"{test['loss']:.4f}",
            f"{test['validation_loss']:.4f}",
        ),
        ("Mean precision, recall, F1 over classes", ", ".join(macro), ""),
    ]
    classes = tables.class_rows(test)
    class_head = ("Class", "Precision, %", "Recall, %", "F1, %", "Test images")
    others = len(test["per_class"]) - len(classes)
    confused = []
    for pair in test["confused_pairs"][:MOST_CONFUSED]:
        confused.append((pair["true"], pair["predicted"], f"{pair['count']:,}"))
    confused_head = ("True class", "Most often taken for", "Test images")
    confused_table = markdown_table(confused_head, confused) if confused else ""
    figures_head = ("", "Test set", "Validation set")
    figures_table = markdown_table(figures_head, figures, figures=(1, 2))
    class_table = markdown_table(class_head, classes, figures=range(1, 5))
    return _parts().results(
        figures=Markdown(figures_table),
        classes=Markdown(class_table),
        others=f"{others:,}" if others else "",
        absent=tables.absent_note(test),
        confused=Markdown(confused_table),
    )


def _num_validation_images(run: RunFolder) -> str:
    """The number of validation images, "" for runs of older versions, which do not say it."""
    split = run.data["splits"].get("validation", {})
    if "examples" not in split:
        return ""
    return f"{split['examples']:,}"


def _calibration(run: RunFolder) -> str:
    if not (run.path / CALIBRATION).exists():
        return _parts().not_measured("report")
    results = run.read_json(CALIBRATION)
    head = calibration.HEAD
    table = markdown_table(head, calibration.rows(results), figures=range(1, len(head)))
    return _parts().calibration(calibration.sentence(results), Markdown(table))


def _robustness(run: RunFolder) -> str:
    if not (run.path / ROBUSTNESS).exists():
        return _parts().not_measured("robustness")
    return robustness.markdown(run.read_json(ROBUSTNESS))


def _limits(run: RunFolder) -> str:
    tested = [row for row in run.test["per_class"] if row["support"]]
    worst = min(tested, key=lambda row: row["recall"])
    weakest = None
    if any(row["recall"] > worst["recall"] for row in tested):
        recall = formats.percent(worst["recall"])
        weakest = {"name": worst["name"], "recall": recall}
    pretrained = run.config.model.get("pretrained")
    inherited = ""
    if pretrained:
        inherited = code(_without_folders(pretrained))
    reading = ""
    if run.config.data.get("image_size"):
        reading = str(Reader.of(run.config.data, run.data))
    return _parts().limits(
        size=_size(run),
        reading=reading,
        weakest=weakest,
        pretrained=inherited,
        warnings=run.data.get("warnings", ()),
    )


def _has_lora(run: RunFolder) -> bool:
    adapt = run.config.get("adapt", {})
    return bool(adapt.get("lora", {}).get("targets"))


def _data_name(run: RunFolder) -> str:
    return run.config.data.get("name") or run.config.data.source


def _num_classes(run: RunFolder) -> int:
    return len(run.data["class_names"])


def _shape(run: RunFolder, separator: str = ", ") -> str:
    """`32, 32, 3`, of the images."""
    shape = run.data["splits"]["train"]["shape"]
    return separator.join(map(str, shape))


def _size(run: RunFolder) -> str:
    """`32x32x3`."""
    return _shape(run, "x")


def _parts() -> Any:
    return templates.markdown_macros("model_card.md.j2")
