"""Every option, declared once: its default, what it accepts, its meaning, and its history.

configs/base.py, docs/options.md and `imgcls options` are written from this table, the checks of a config
read it, and so does the comparison that decides whether a folder has the run of a config. Models and
objectives have further options of their own.
"""

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from imgcls_jax.config.kinds import (
    BELOW_1,
    POSITIVE,
    SEED,
    SHARE,
    Bytes,
    Choice,
    FileName,
    Flag,
    Kind,
    Number,
    Pair,
    Pattern,
    Portion,
    Section,
    Text,
    Tuple,
    Whole,
)

FIRST_VERSION = "0.1"


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a config.

    default: its value in configs/base.py. kind: what values it accepts. help: its meaning. since: the
    version that brought it or, with `old_name`, this name. is_identity: whether runs that differ in it
    are different runs; paths, devices and the like are not. is_required: whether every run folder has
    it; one of an older version may lack the others, which then have their defaults.
    """

    default: Any
    kind: Kind
    help: str
    since: str = FIRST_VERSION
    is_identity: bool = True
    is_required: bool = True
    old_name: str = ""


def where(default: Any, kind: Kind, help: str, **more: Any) -> Option:
    """Returns an option that says where or how fast something is done, not what comes out."""
    return Option(default, kind, help, is_identity=False, is_required=False, **more)


def later(default: Any, kind: Kind, help: str, **more: Any) -> Option:
    """Returns an option that a run folder may lack: with its default an older version did the same."""
    return Option(default, kind, help, is_required=False, **more)


OPTIONS: dict[str, Option] = {
    "name": later(
        None, FileName(True), "name of the run and of its folder; else the config file's"
    ),
    "seed": Option(0, SEED, "initial weights, order of the examples, augmentation, dropout"),
    "quick": later(
        0.0,
        BELOW_1,
        "for a trial: share of all images, at least one of each class, in at most 2 epochs; 0 for none",
        since="0.2",
    ),
    "data.source": Option("tfds", Choice(), "where and in what form the images are: {choices}"),
    "data.name": Option("mnist", Text(), "the data set's TFDS name; otherwise only a label"),
    "data.path": where(None, Text(True), "folder or file of the data; of tfds, its $TFDS_DATA_DIR"),
    "data.validation_size": Option(
        0.1,
        Portion(0, open="low"),
        "share (below 1) or number of training images held out, if there is no validation set",
        since="0.2",
        old_name="data.validation",
    ),
    "data.train_size": later(
        0,
        Portion(0),
        "share (below 1) or number of training images to train on, stratified; 0 takes all",
        since="0.2",
        old_name="data.train",
    ),
    "data.long_tail": later(
        1.0, Number(1), "largest class by smallest, exponentially between; 1 keeps all", since="0.2"
    ),
    "data.drawn": later(
        0, Whole(0, 100_000), "drawn images of each digit added to MNIST's training images"
    ),
    "data.test_size": Option(
        0.2,
        Portion(0),
        "share (below 1) or number of images held out for the test, if there is no test set",
        since="0.2",
        old_name="data.test",
    ),
    "data.folds": later(
        0,
        Whole(0, 1000),
        "parts of the training images, one of which is the test set instead of another; 0 for none",
        since="0.2",
    ),
    "data.fold": later(
        0,
        Whole(0, 999),
        "which of them, from 0; a study trains every one",
        since="0.2",
    ),
    "data.split_seed": Option(0, SEED, "seed of these splits, which runs of several seeds share"),
    "data.image_size": Option(
        0, Whole(0, 10_000), "folder: side to which images are resized when read; 0 keeps theirs"
    ),
    "data.fit": later(
        "stretch",
        Choice(),
        "folder: what image_size does with images that are not square: {choices}",
        since="0.2",
    ),
    "data.corrections": later(
        None,
        Text(True),
        "CSV file of labels to change and images to leave out, as `imgcls audit` writes it",
        since="0.2",
    ),
    "data.transform": Option("", Text(), 'image operations, as in "random_crop(4)|flip"'),
    "data.device_bytes": where(
        2_000_000_000,
        Bytes(0),
        "most bytes of images on a device; if there are more, they stream from disk",
        since="0.2",
        old_name="data.device_budget",
    ),
    "data.cache": where(
        "~/.cache/imgcls_jax/data", Text(), 'folder of decoded images, with checksums; "" for none'
    ),
    "model.name": Option("cnn", Choice(), "{choices}; further options are the model's own"),
    "model.pretrained": later(
        None, Text(True), "weights to start from: a name of `imgcls weights list`, a file, or a run"
    ),
    "model.max_parameters": later(
        0, Bytes(0), "most trainable parameters: a model with more is refused; 0 for no limit"
    ),
    "pretrained.cache": where(
        "~/.cache/imgcls_jax/weights", Text(), "folder of downloaded weights, verified by hash"
    ),
    "train.epochs": Option(10, Whole(1), "passes over the training set"),
    "train.batch_size": Option(
        64, Whole(1), "images a step, over all devices; what does not fill a batch is left out"
    ),
    "train.eval_batch_size": Option(
        512, Whole(1), "images a step of validation and test, over all devices", is_identity=False
    ),
    "train.precision": Option("float32", Choice(), "type of activations: {choices}"),
    "train.label_smoothing": Option(0.0, BELOW_1, "share of the target spread over all classes"),
    "train.class_weights": later(
        "", Text(), '"balanced", or by class, as in "cat=2|dog=0.5"; "" for none', since="0.2"
    ),
    "train.focal_gamma": later(0.0, Number(0), "focal loss: usually 2; 0 for none", since="0.2"),
    "train.logit_adjustment": later(
        0.0, Number(0), "of logits, by the classes' log shares: usually 1; 0 for none", since="0.2"
    ),
    "train.balanced_sampling": later(
        0.0, SHARE, "1 has as many images of each class in an epoch; 0 has their own", since="0.2"
    ),
    "train.monitor": Option(
        "accuracy", Choice(), "picks the checkpoint, stops early, lowers the rate: {choices}"
    ),
    "train.early_stopping": Option(
        0, Whole(0), "epochs without improvement after which training stops; 0 never"
    ),
    "train.steps_per_dispatch": Option(
        50, Whole(1), "most steps between two looks at progress, signals and loss"
    ),
    "train.ema_decay": later(
        0.0,
        BELOW_1,
        "decay per step of a moving average of the weights, which is validated and kept; 0 for none",
        since="0.2",
        old_name="train.average",
    ),
    "train.tta": later(
        "none",
        Choice(),
        "test-time augmentation, views over whose logits evaluation averages: {choices}",
        since="0.2",
        old_name="train.views",
    ),
    "train.tracker": where(
        "",
        Text(),
        'besides TensorBoard: mlflow, or package.module:Class of a CLU MetricWriter; "" for none',
        since="0.2",
    ),
    "train.winograd": where(
        True, Flag(), "on CPUs: 3x3 convolutions by Winograd if that is faster"
    ),
    "train.cpu_devices": where(
        1, Whole(1, 256), "virtual devices of a CPU; 2 make recurrent and narrow networks faster"
    ),
    "train.parallel": where(
        "pmap", Choice(), "how a step runs on all devices, to the same bits: {choices}", since="0.2"
    ),
    "adapt.trainable": later(
        (), Tuple(Pattern()), "paths that train; () for all or, beside LoRA and last_layers, none"
    ),
    "adapt.last_layers": later(
        0, Whole(0), "so many of the backbone's last layers train too, as Keras counts them"
    ),
    "adapt.frozen_statistics": later(
        "stored", Choice(), "batch statistics, and dropout, of what does not train: {choices}"
    ),
    "adapt.feature_bytes": where(
        2_000_000_000,
        Bytes(0),
        "most bytes of features that are computed once, where that is exact; 0 never",
        since="0.2",
        old_name="adapt.feature_cache",
    ),
    "adapt.feature_folder": where(
        "~/.cache/imgcls_jax/features", Text(), 'where they are kept for other runs; "" for nowhere'
    ),
    "adapt.feature_disk_bytes": where(
        10_000_000_000,
        Bytes(0),
        "most bytes kept there; the least recently used are deleted first",
        since="0.2",
        old_name="adapt.feature_disk",
    ),
    "adapt.phases": later({}, Section(), "parts of training with options of their own, by name"),
    "adapt.lora.targets": later(
        (), Tuple(Pattern()), "patterns of the kernels that get a trainable low-rank pair"
    ),
    "adapt.lora.rank": later(4, Whole(1), "channels between the pair"),
    "adapt.lora.alpha": later(4.0, POSITIVE, "the pair is multiplied by alpha / rank"),
    "adapt.lora.full": later(
        False, Flag(), "whether a pair's first kernel is as large as the one beside it, or 1x1"
    ),
    "objective": later(
        {}, Section(), "what is learned from: {choices}, with options; {{}} is labels"
    ),
    "optimizer.name": later("adam", Choice(), "{choices}"),
    "optimizer.learning_rate": later(1e-3, POSITIVE, "the schedule's peak"),
    "optimizer.weight_decay": later(
        0.0, Number(0), "decoupled in adamw, lion, muon, schedule_free_adamw; otherwise L2"
    ),
    "optimizer.decay_vectors": later(True, Flag(), "whether biases and scales of norms decay too"),
    "optimizer.multipliers": later(
        (),
        Tuple(Pair(Pattern(), Number(0))),
        "pairs: pattern of parameter paths, factor on the rate",
    ),
    "optimizer.momentum": later(0.0, BELOW_1, "sgd, sam, muon (whose default, at 0, is 0.95)"),
    "optimizer.nesterov": later(False, Flag(), "sgd, sam, with momentum"),
    "optimizer.beta1": later(0.9, BELOW_1, "adam, adamw, lion, muon, schedule_free_adamw"),
    "optimizer.beta2": later(0.999, BELOW_1, "the same; and the decay of rmsprop (torch has 0.99)"),
    "optimizer.eps": later(
        1e-8, Number(0), "adam, adamw, schedule_free_adamw, rmsprop, adagrad (Keras has 1e-7)"
    ),
    "optimizer.rho": later(0.05, POSITIVE, "sam: how far it looks around the weights", since="0.2"),
    "optimizer.clip_norm": later(0.0, Number(0), "bound on the gradient's global norm; 0 for none"),
    "optimizer.clip_value": later(0.0, Number(0), "bound on every gradient entry; 0 for none"),
    "schedule.name": later("constant", Choice(), "{choices}"),
    "schedule.warmup_epochs": later(0.0, Number(0), "linear rise from 0; onecycle has its own"),
    "schedule.end_factor": later(
        0.0,
        SHARE,
        "cosine, linear: the last rate, as a share of the peak",
        since="0.2",
        old_name="schedule.final",
    ),
    "schedule.step_epochs": later(
        (30, 60, 80), Tuple(POSITIVE), "step: epochs at whose start the rate falls"
    ),
    "schedule.factor": later(
        0.1, Number(0, 1, "low"), "step, plateau: what the rate is multiplied by"
    ),
    "schedule.patience": later(
        2, Whole(1), "plateau: epochs without improvement before the rate falls"
    ),
    "schedule.min_rate": later(0.0, Number(0), "plateau: the rate never falls below this"),
    "schedule.pct_start": later(
        0.3,
        Number(0, 1, "both"),
        "onecycle: share of training at which the rate peaks",
        since="0.2",
        old_name="schedule.peak_at",
    ),
}
SECTIONS = ("model", "objective", "adapt.phases")  # which have options beyond these
OLD_NAMES = {option.old_name: path for path, option in OPTIONS.items() if option.old_name}
NOT_IDENTITY = tuple(path for path, option in OPTIONS.items() if not option.is_identity)


def renamed(path: str) -> str:
    """Returns a sentence on the new name of an option, "" if it has none."""
    for old_name, new_name in OLD_NAMES.items():
        if path == old_name or path.endswith(f".{old_name}"):
            return f"{old_name} is now {new_name}."
    return ""


def upgrade(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of a run folder of any version as today's: with today's names and options.

    An option that the folder's version did not have gets its default. Options that every run folder
    has are not filled in.
    """
    config = copy.deepcopy(dict(config))
    parts = [config]
    if section := section_of(config, "adapt.phases"):
        phases = section["phases"]
        if isinstance(phases, dict):
            parts += phases.values()
    is_old = any(section_of(config, old_name) for old_name in OLD_NAMES)
    is_old = is_old or section_of(config, "train.parallel") is None
    for part in parts:
        if isinstance(part, dict) and is_old:
            _rename(part)
    for path, option in OPTIONS.items():
        if not option.is_required:
            _fill(config, path, option)
    return config


def section_of(config: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Returns the section that has the option at a path; None if there is no such option."""
    *parents, key = path.split(".")
    section: Any = config
    for parent in parents:
        section = section.get(parent) if isinstance(section, dict) else None
    if isinstance(section, dict) and key in section:
        return section
    return None


def _rename(config: dict[str, Any]) -> None:
    """Gives the options of a config of a version before 0.2 their names, in place."""
    for old_name, new_name in OLD_NAMES.items():
        if section := section_of(config, old_name):
            value = section.pop(old_name.rpartition(".")[2])
            section[new_name.rpartition(".")[2]] = value
    optimizer = config.get("optimizer")
    if not isinstance(optimizer, dict):
        return
    # "momentum" was an optimizer beside "sgd", and the option was there, with 0.9, in all configs.
    if optimizer.get("name") == "momentum":
        optimizer["name"] = "sgd"
    elif "name" in optimizer and "momentum" in optimizer:
        optimizer["momentum"] = 0.0


def _fill(config: dict[str, Any], path: str, option: Option) -> None:
    *parents, key = path.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
        if not isinstance(config, dict):
            return  # damaged: the checks of the config say so
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    config.setdefault(key, copy.deepcopy(default))


def flat_options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested options by path: {"optimizer.name": "adam", ...}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flat_options(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differing(
    first: Mapping[str, Any], second: Mapping[str, Any], *, ignored: Iterable[str]
) -> list[str]:
    """Returns the paths of the options in which two configs, as of `flat_options`, differ.

    An option of a model that one of them lacks, since another version wrote it, counts as off there:
    0, "", () or False.
    """
    paths = []
    for path in sorted({*first, *second} - {*ignored}):
        value = first.get(path)
        other = second.get(path)
        is_set = bool(value) or bool(other)
        if value != other and is_set:
            paths.append(path)
    return paths
