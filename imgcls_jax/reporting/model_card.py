"""The model card of an exported run (Mitchell et al., 2019, arXiv:1810.03993): README.md beside the files.

Everything in it is read from the run's folder. The lines between the dashes are for the Hugging Face hub.
"""

import json
from operator import itemgetter
from pathlib import Path

import jax

from imgcls_jax.config.options import flat_options
from imgcls_jax.data import HELD_OUT, OWN
from imgcls_jax.data.views import VIEWS
from imgcls_jax.evaluation.export import PLATFORMS, PROGRAM, WEIGHTS
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import calibration, page, robustness, tables
from imgcls_jax.reporting.plain_tables import code, escape, markdown_table
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
    "train.average": "Decay per step of the running average kept",
    "adapt.trainable": "What trains, by path",
    "adapt.last_layers": "Last layers that train",
    "adapt.lora.targets": "Kernels with low-rank pairs (LoRA)",
    "adapt.lora.rank": "Rank of the pairs",
}
PICKED = "and picked the epoch that is kept."
VALIDATION = {
    OWN: f"The validation images are a split of the source {PICKED}",
    HELD_OUT: f"The validation images were taken out of the training set {PICKED}",
}
APART = "No part of the training or validation images; looked at only when the epoch was picked."
SNIPPET = """\
import json

import jax
import numpy as np
from jax import export

with open("{weights}", "rb") as file:  # the header of the weights' file knows the classes
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
classes = json.loads(header["__metadata__"]["class_names"])
with open("{program}", "rb") as file:
    logits = jax.jit(export.deserialize(bytearray(file.read())).call)

images = np.zeros((2, {shape}), np.uint8)  # put yours here: any number of images, values 0 to 255{channels}
for each in np.asarray(jax.nn.softmax(logits(images))):
    print(classes[each.argmax()], each.max())
"""


def write(run: RunFolder, folder: Path) -> Path:
    """Writes CARD of a tested run into the folder with its exported files; returns its path."""
    parts = {
        "Files": _files(run, folder),
        "Use": _use(run),
        "Model details": _details(run),
        "Intended use": _intended(run),
        "Training data": _data(run, _validation(run), "train", "validation"),
        "Training": _training(run),
        "Evaluation data": _data(run, APART, "test"),
        "Results": _results(run),
        "Calibration": _calibration(run),
        "Robustness": _robustness(run),
        "Limits": _limits(run),
    }
    body = "\n".join(f"## {title}\n\n{text}" for title, text in parts.items())
    card = f"{_front_matter(run)}\n# {escape(run.name)}\n\n{_summary(run)}\n{body}"
    write_atomically(folder / CARD, card.encode())
    return folder / CARD


def _front_matter(run: RunFolder) -> str:
    test, data = run.test, json.dumps(_data_name(run))  # JSON's strings are YAML's too
    metrics = {"accuracy": test["accuracy"], "f1": test["macro"]["f1"], "loss": test["loss"]}
    lines = [
        "---",
        "library_name: jax",
        "pipeline_tag: image-classification",
        "tags: [jax, flax, image-classification]",
        f"datasets: [{data}]",
        "metrics: [accuracy, f1]",
        "model-index:",
        f"  - name: {json.dumps(run.name)}",
        "    results:",
        "      - task: {type: image-classification}",
        f"        dataset: {{name: {data}, type: {data}, split: test}}",
        "        metrics:",
        *(f"          - {{type: {name}, value: {value:.6f}}}" for name, value in metrics.items()),
        "---",
    ]
    return "\n".join(lines) + "\n"


def _summary(run: RunFolder) -> str:
    test = run.test
    return (
        f"A classifier of images of {_size(run)} into {_classes(run)} classes: {code(run.config.model.name)}, "
        f"trained on {escape(_data_name(run))}. It classifies {page.percent(test['accuracy'])} of {test['examples']:,} "
        f"test images correctly, with a loss of {test['loss']:.4f}.\n"
    )


def _files(run: RunFolder, folder: Path) -> str:
    arrays = f"uint8 images [b, {_shape(run)}] -> float32 logits [b, {_classes(run)}]"
    program = f"{arrays}, for JAX on {', '.join(PLATFORMS)}"
    weights = "the weights by path; as JSON in its metadata: classes, preprocessing, shape of the images, all options"
    rows = [
        (code(name), f"{(folder / name).stat().st_size / 1e6:.2f} MB", what)
        for name, what in ((PROGRAM, program), (WEIGHTS, weights))
    ]
    return markdown_table(("File", "Size", "Content"), rows) + (
        f"\nWritten by jax {jax.__version__} on {jax.default_backend()}, where the program's logits were compared with "
        "the run's. Later versions of jax read such a program for six months at least "
        "([what JAX guarantees](https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees)).\n"
    )


def _use(run: RunFolder) -> str:
    channels = {1: ", gray", 3: ", red-green-blue"}.get(
        run.data["splits"]["train"]["shape"][-1], ""
    )
    code = SNIPPET.format(program=PROGRAM, weights=WEIGHTS, shape=_shape(run), channels=channels)
    return f"With `pip install jax flatbuffers`, beside these files:\n\n```python\n{code}```\n"


def _details(run: RunFolder) -> str:
    test, environment, config = run.test, run.environment, run.config
    trainable = test.get("trainable", test["parameters"])
    trained = f"{trainable:,}" if trainable < test["parameters"] else "all"
    merged = ", low-rank pairs included, which are merged in the files" if _lora(run) else ""
    views = config.train.get("views", "none")
    rows = {
        "Model": config.model.name,
        "Parameters": f"{test['parameters']:,}{merged}; {trained} were trained",
        "Computes in": f"{config.train.precision}, with float32 weights",
        "Prediction": "one pass"
        if views == "none"
        else f"mean of the logits over {len(VIEWS[views])} views ({views})",
        "Trained on": f"{environment.get('device_count', 1)} x {environment.get('device', 'an unnamed device')}",
        "Versions": ", ".join(
            f"{name} {version}" for name, version in environment.get("versions", {}).items()
        ),
        "Commit": environment.get("commit") or "unknown",
        "Command": code(environment.get("command", "unknown")),
    }
    return markdown_table(("", ""), rows.items())


def _intended(run: RunFolder) -> str:
    return (
        f"Telling the {_classes(run)} classes below apart on images like those of {escape(_data_name(run))}; research "
        "and comparison of training recipes. Nothing was done to make it fit for decisions about people, or for "
        "anything where a mistake harms.\n"
    )


def _data(run: RunFolder, words: str, *splits: str) -> str:
    found = run.data["splits"]
    rows = [
        (split, f"{found[split]['examples']:,}", code(found[split]["fingerprint"][:12]))
        for split in splits
        if split in found
    ]
    table = markdown_table(("Split", "Images", "Fingerprint"), rows)
    return f"{escape(_data_name(run))}, read by {code(run.config.data.source)}. {words}\n\n{table}"


def _validation(run: RunFolder) -> str:
    """Where the validation images come from; runs of older versions, which do not say, held them out."""
    return VALIDATION.get(run.data.get("origin", {}).get("validation"), VALIDATION[HELD_OUT])


def _training(run: RunFolder) -> str:
    test, config = run.test, run.config
    flat = flat_options(config.to_dict())
    rows = [
        (words, code(page.text(flat[key])))
        for key, words in RECIPE.items()
        if flat.get(key) and (_lora(run) or not key.startswith("adapt.lora."))
    ]
    for name, phase in sorted(config.get("adapt", {}).get("phases", {}).items()):
        changes = "; ".join(
            f"{key} = {page.text(value)}" for key, value in flat_options(phase).items()
        )
        rows.append((f"Phase {name}", code(changes)))
    rows += [("Seed", config.seed), ("Seed of the splits", config.data.split_seed)]
    return markdown_table(("", ""), rows) + (
        f"\nThe weights are those of epoch {test['best_epoch']} of {test['epochs']}. Training took "
        f"{page.duration(test['train_seconds'])}.\n"
    )


def _results(run: RunFolder) -> str:
    test = run.test
    macro = test["macro"]
    figures = {
        "Test accuracy": page.percent(test["accuracy"]),
        "Test loss (cross entropy)": f"{test['loss']:.4f}",
        "Mean precision, recall, F1 over classes": ", ".join(
            f"{100 * macro[key]:.2f} %" for key in macro
        ),
        "Validation accuracy": page.percent(test["validation_accuracy"]),
        "Validation loss": f"{test['validation_loss']:.4f}",
    }
    classes = tables.class_rows(test)
    cut = len(test["per_class"]) - len(classes)
    confused = [
        (pair["true"], pair["predicted"], f"{pair['count']:,}")
        for pair in test["confused_pairs"][:5]
    ]
    parts = [
        markdown_table((f"On {test['examples']:,} test images", ""), figures.items()),
        markdown_table(
            ("Class", "Precision, %", "Recall, %", "F1, %", "Test images"),
            classes,
            figures=range(1, 5),
        ),
    ]
    if cut:
        parts.append(f"These are the classes with the lowest F1; {cut:,} more are in test.json.\n")
    if note := tables.absent_note(test):
        parts.append(f"{escape(note.strip())}\n")
    if confused:
        parts.append(
            markdown_table(("True class", "Most often taken for", "Test images"), confused)
        )
    return "\n".join(parts)


def _calibration(run: RunFolder) -> str:
    if not (run.path / CALIBRATION).exists():
        return "Not measured: `python -m imgcls_jax report RUN` does.\n"
    found = run.read_json(CALIBRATION)
    note = "The program gives logits as trained: divide them by the temperature for the scaled probabilities."
    table = markdown_table(
        calibration.HEAD, calibration.rows(found), figures=range(1, len(calibration.HEAD))
    )
    return f"{calibration.sentence(found)} {note}\n\n{table}"


def _robustness(run: RunFolder) -> str:
    if not (run.path / ROBUSTNESS).exists():
        return "Not measured: `python -m imgcls_jax robustness RUN` does.\n"
    return robustness.markdown(run.read_json(ROBUSTNESS))


def _limits(run: RunFolder) -> str:
    limits = [
        "It answers with one of its classes whatever an image shows; images of anything else were not tried.",
        f"It takes images of {_size(run)} only. Others have to be cropped and resized first, which was not evaluated.",
        "The figures are of one run with one seed, and of test images from the source of the training images; other "
        "cameras, places and times were not tried.",
        "Nothing finer than classes was evaluated, such as groups of people: the data do not name any.",
    ]
    known = [row for row in run.test["per_class"] if row["support"]]
    worst, best = min(known, key=itemgetter("recall")), max(known, key=itemgetter("recall"))
    if worst["recall"] < best["recall"]:
        found = page.percent(worst["recall"])
        limits.append(
            f"Its weakest class is {escape(worst['name'])}, of whose test images it finds {found}."
        )
    if pretrained := run.config.model.get("pretrained"):
        limits.append(
            f"It inherits what {code(pretrained)} learned from other images, which was not examined here."
        )
    limits += map(escape, run.data.get("warnings", ()))
    return "".join(f"- {limit}\n" for limit in limits)


def _lora(run: RunFolder) -> bool:
    return bool(run.config.get("adapt", {}).get("lora", {}).get("targets"))


def _data_name(run: RunFolder) -> str:
    return run.config.data.get("name") or run.config.data.source


def _classes(run: RunFolder) -> int:
    return len(run.data["class_names"])


def _shape(run: RunFolder) -> str:
    """ "32, 32, 3" """
    return ", ".join(map(str, run.data["splits"]["train"]["shape"]))


def _size(run: RunFolder) -> str:
    """ "32x32x3" """
    return "x".join(map(str, run.data["splits"]["train"]["shape"]))
