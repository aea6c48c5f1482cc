"""Exported files: their logits without this package, their metadata, and errors."""

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from jax import export as jax_export
from ml_collections import ConfigDict
from PIL import Image, ImageOps
from small_models import SMALL

from configs import base
from imgcls_jax import backend, commands, models, pretrained, trees
from imgcls_jax.data import Splits
from imgcls_jax.data.dataset import Dataset
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.transforms import parse
from imgcls_jax.data.views import VIEWS
from imgcls_jax.errors import RunError
from imgcls_jax.evaluation import calibration, classifiers, export, predict
from imgcls_jax.evaluation.export import PROGRAM, WEIGHTS, ExportedClassifier
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.models import cpu_kernels, lora
from imgcls_jax.pretrained import safetensors_format
from imgcls_jax.reporting import card_use, model_card
from imgcls_jax.run.checkpoints import Checkpoints
from imgcls_jax.run.folder import RunFolder
from imgcls_jax.training import loop, recorder
from imgcls_jax.training.train_step import eval_step

ROOT = Path(__file__).parents[2]
CLASS_NAMES = ("left | right", "<b>cat</b>", "dog")
# Without this package: the logits of the images in a file, for batches of 1, 7 and 64.
ALONE = """
import sys
import jax
import numpy as np
from jax import export

program, images, out = sys.argv[1:]
logits = export.deserialize(bytearray(open(program, "rb").read())).call
images = np.load(images)
np.savez(out, *[logits(images[:count]) for count in (1, 7, 64)])
assert not any(name.split(".")[0] in ("imgcls_jax", "flax", "configs") for name in sys.modules)
"""


def pictures(count: int, shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run of a few steps with low-rank pairs and two views, tested, calibrated and exported.

    Returns the run and the folder of the export.
    """
    config = base.get_config()
    shape = (10, 9, 3)
    config.data.update(
        source="folder",
        name="made & up",
        transform="random_crop(1)|flip|resize(8)|normalize(.5, .25)",
    )
    with config.model.unlocked():
        config.model.update(name="fast_cnn", filters=(4,))
    config.train.update(epochs=1, batch_size=8, eval_batch_size=8, tta="flip")
    config.adapt.update(trainable=("^classifier/",))
    config.adapt.lora.update(targets=("_conv./kernel",), rank=2, alpha=8.0)
    config.optimizer.learning_rate = 0.05

    run = RunFolder(tmp_path_factory.mktemp("runs") / "small")
    run.path.mkdir()
    labels = np.arange(24, dtype=np.int32) % 3
    train, validation, test = [
        Dataset(pictures(24, shape, seed), labels, CLASS_NAMES) for seed in range(3)
    ]
    data = Splits(train, validation, test, report={})
    split = {"examples": 24, "shape": shape, "fingerprint": "c0ffee" * 10, "pixel_mean": 127.5}
    run.write_json("config.json", config.to_dict())
    splits = dict.fromkeys(("train", "validation", "test"), split)
    environment = {"device": "a <small> CPU", "versions": {"jax": "0.10.2"}, "commit": "abc123"}
    run.write_json("data.json", {"class_names": CLASS_NAMES, "splits": splits})
    run.write_json("environment.json", environment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder.Recorder, "_write_epoch", lambda self, line: None)
        loop.train(config, run, data)
    predict.test(run, data)
    calibration.write(run)
    return run, export.write(run)


@pytest.fixture(scope="module")
def predictor(exported):
    return Predictor(exported[0])


def logits_alone(folder, images, tmp_path) -> list[np.ndarray]:
    np.save(tmp_path / "images.npy", images)
    arguments = [folder / PROGRAM, tmp_path / "images.npy", tmp_path / "out.npz"]
    command = [sys.executable, "-c", ALONE, *arguments]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    with np.load(tmp_path / "out.npz") as arrays:
        return list(arrays.values())


def assert_same(logits, expected, share: float = 1e-5):
    assert logits.dtype == np.float32
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, atol=share * np.abs(expected).max(), rtol=0)


def test_a_process_without_this_package_gets_the_logits_of_the_run(exported, predictor, tmp_path):
    images = pictures(64, (10, 9, 3), seed=5)
    expected = predictor.logits(images)
    for logits in logits_alone(exported[1], images, tmp_path):
        assert_same(logits, expected[: len(logits)])


def test_an_exported_classifier_needs_its_two_files_alone(
    exported, predictor, tmp_path, monkeypatch
):
    for name in (PROGRAM, WEIGHTS):
        (tmp_path / name).write_bytes((exported[1] / name).read_bytes())
    model = classifiers.load(tmp_path)
    assert isinstance(model, ExportedClassifier)
    assert model.reader == predictor.reader
    assert model.name == "small"
    assert model.class_names == CLASS_NAMES
    assert model.shape == (10, 9, 3)
    monkeypatch.setattr(export, "BATCH_SIZE", 8)
    images = pictures(21, model.shape)
    assert_same(model.logits(images), predictor.logits(images))
    expected = predictor.probabilities(images)
    np.testing.assert_allclose(model.probabilities(images), expected, atol=1e-5)
    with pytest.raises(ValueError, match="10"):
        model.logits(pictures(2, (12, 9, 3)))


def test_damaged_and_missing_files_are_refused(exported, tmp_path):
    _, folder = exported
    with pytest.raises(RunError, match=f"has no {PROGRAM}: python -m imgcls_jax export RUN"):
        ExportedClassifier(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    program = bytearray((folder / PROGRAM).read_bytes())
    program[len(program) // 2] ^= 1
    (tmp_path / PROGRAM).write_bytes(program)
    with pytest.raises(RunError, match="is damaged, or of another export"):
        ExportedClassifier(tmp_path)


def test_data_of_another_form_are_refused(exported, monkeypatch):
    _, folder = exported
    metadata = safetensors_format.read_metadata(folder / WEIGHTS)
    report = json.loads(metadata["data"])
    report["splits"]["train"]["shape"] = []
    metadata["data"] = json.dumps(report)
    monkeypatch.setattr(safetensors_format, "read_metadata", lambda path: metadata)
    with pytest.raises(RunError, match="holds no export, or one of another version"):
        ExportedClassifier(folder)


def test_the_views_are_in_the_program(exported, predictor):
    """One view gives other logits."""
    images = pictures(8, (10, 9, 3))
    x = predictor.transform(images)
    one_view = eval_step(predictor.model, predictor.variables, x)
    logits = ExportedClassifier(exported[1]).logits(images)
    assert np.abs(logits - one_view).max() > 1e-2 * np.abs(logits).max()


def test_the_command_says_what_it_wrote_and_how_far_it_is_off(
    exported, caplog, monkeypatch, tmp_path
):
    run, folder = exported
    monkeypatch.setattr(backend, "configure", lambda: None)
    with caplog.at_level(logging.INFO):
        commands.export.export([str(run.path)])
    sizes = rf"{PROGRAM} \d\.\d\d MB, {WEIGHTS} \d\.\d\d MB"
    message = rf"{folder}: {sizes}; logits differ from the run's by \d\.\de-\d\d"
    assert re.search(message, caplog.text)
    assert str(folder / "README.md") in caplog.text
    with pytest.raises(RunError, match=r"test\.json is missing"):
        commands.export.export([str(tmp_path)])


def test_a_program_that_differs_is_not_written(exported, monkeypatch):
    run, _ = exported
    monkeypatch.setattr(export, "tta_views", lambda config: VIEWS["none"])
    monkeypatch.setattr(export, "EXPORT", "other")
    with pytest.raises(RunError, match="differ from the run's by .* nothing is written"):
        export.write(run)
    assert not (run.path / "other").exists()


def test_low_rank_pairs_are_merged(exported):
    run, folder = exported
    arrays = safetensors_format.read(folder / WEIGHTS)
    checkpoints = Checkpoints(run.path / "checkpoints", read_only=True)
    _, saved = checkpoints.restore_best()
    checkpoints.close()
    params, pairs = lora.split(saved["params"])
    leaves = trees.flatten({"params": params, **saved["model_state"]})
    assert pairs
    assert set(arrays) == set(leaves)
    for path, leaf in leaves.items():
        is_changed = np.abs(arrays[path] - leaf).max() > 1e-3
        has_pair = re.search("_conv./kernel", path) is not None
        assert is_changed == has_pair, path


def test_training_can_start_from_the_weights_which_know_their_model(exported, predictor):
    run, folder = exported
    config = run.config
    metadata = safetensors_format.read_metadata(folder / WEIGHTS)
    assert json.loads(metadata["config"]) == config.to_dict()
    assert metadata["transform"] == config.data.transform
    temperature = ExportedClassifier(folder).temperature
    assert temperature == calibration.best_temperature(run) is not None
    assert pretrained.preprocessing(folder / WEIGHTS) == config.data.transform
    expected_leaves = trees.flatten(predictor.variables)
    empty = jax.tree.map(np.zeros_like, predictor.variables)
    config.model.pretrained = str(folder / WEIGHTS)
    loaded = pretrained.initialize(config, empty, class_names=CLASS_NAMES)
    for path, leaf in trees.flatten(loaded).items():
        np.testing.assert_array_equal(leaf, expected_leaves[path])
    other_names = ("another", "three", "classes")
    params = pretrained.initialize(config, empty, class_names=other_names)["params"]
    assert not np.any(params["classifier"]["kernel"])
    assert np.any(params["block1_conv1"]["kernel"])


def test_the_card_holds_the_figures(exported):
    run, folder = exported
    card = model_card.write(run, folder).read_text()
    test = run.test
    front = yaml.safe_load(card.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert front["datasets"] == ["made & up"]
    assert result["dataset"]["split"] == "test"
    accuracy, f1, *_ = result["metrics"]
    assert accuracy == {"type": "accuracy", "value": pytest.approx(test["accuracy"], abs=1e-6)}
    assert f1["value"] == pytest.approx(test["macro"]["f1"], abs=1e-6)
    for row in test["per_class"]:
        assert f"| {100 * row['precision']:.2f} | {100 * row['recall']:.2f} |" in card
    temperature = run.read_json("calibration.json")["temperature"]
    for text in (
        f"{100 * test['accuracy']:.2f} % of 24 test images",
        f"a loss of {test['loss']:.4f}",
        f"{test['parameters']:,}, low-rank pairs included, which are merged in the files; "
        f"{test['trainable']:,} were",
        f"mean of the logits over {len(VIEWS['flip'])} views",
        f"At temperature {temperature:.3g}",
        "`random_crop(1)\\|flip\\|resize(8)\\|normalize(.5, .25)`",
        "left \\| right",
        "&lt;b&gt;cat&lt;/b&gt;",
        "Not measured: `python -m imgcls_jax robustness RUN` does.",
        "1 x a &lt;small&gt; CPU",
        "abc123",
    ):
        assert text in card, text
    assert "| Accuracy | " in card and "| Test set | Validation set |" in card
    assert "validation images were taken out of the training images before training" in card
    assert "not trained on the test images and nothing was chosen by them" in card


@pytest.mark.parametrize("fit", ["", "stretch", "crop", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_card_reads_an_image_as_the_run_does(fit, channels):
    reader = Reader((32, 32, channels), fit=fit)
    photo = np.kron(pictures(1, (20, 10, 3))[0], np.ones((8, 8, 1), np.uint8))
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(photo).save(content, "PNG", exif=exif)
    expected, _ = reader(io.BytesIO(content.getvalue()))
    image = ImageOps.exif_transpose(Image.open(content)).convert(card_use.MODES[channels])
    code = card_use.resizing(reader)
    image = eval(code, {"image": image, "Image": Image, "ImageOps": ImageOps})
    pixels = np.asarray(image, float).reshape(expected.shape)
    inner = np.s_[8:-8] if fit == "pad" else np.s_[:]  # the colour of the rest may differ
    assert np.abs(pixels - expected)[inner].mean() < 8
    assert card_use.note(Reader((8, 8, 1), ground="dark")).startswith("The run's images are dark")


def test_the_card_of_a_trial_says_so(exported):
    run, folder = exported
    config = run.config
    config.quick = 0.1
    original = run.read_json("config.json")
    run.write_json("config.json", config.to_dict())
    card = model_card.write(run, folder).read_text()
    assert "**It is a trial on 10 % of the images: its figures are no results.**" in card
    config.data.image_size = 8
    run.write_json("config.json", config.to_dict())
    card = model_card.write(run, folder).read_text()
    assert "which was not evaluated" not in card and "as the run's were." in card
    run.write_json("config.json", original)


def test_the_snippets_of_the_card_go_from_a_file_to_a_class(exported, tmp_path):
    run, folder = exported
    card = model_card.write(run, folder).read_text()
    shutil.copytree(folder, tmp_path / "export")
    Image.fromarray(pictures(1, (40, 30, 3))[0]).save(tmp_path / "export" / "image.png")
    snippets = card.split("```python\n")[1:]
    assert len(snippets) == 2
    for snippet in snippets:
        command = [sys.executable, "-c", snippet.split("```")[0]]
        process = subprocess.run(
            command,
            cwd=tmp_path / "export",
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        (line,) = process.stdout.splitlines()
        assert line.startswith(CLASS_NAMES)


def test_the_card_names_no_folder_of_the_machine(exported):
    run, folder = exported
    before = run.environment
    command = "python launch.py --config configs/own_photos.py:'/home/me/my photos/cats' --workdir"
    command += " ~/runs/cats --config.data.path=/srv/data --config.model.pretrained=../w.pth -x a/b"
    try:
        run.write_json("environment.json", before | {"command": command})
        card = model_card.write(run, folder).read_text()
    finally:
        run.write_json("environment.json", before)
    for text in ("/home", "my photos", "~", "/srv", "=../w"):
        assert text not in card
    assert "own_photos.py:.../cats" in card and "path=.../data" in card and "-x a/b" in card
    assert "pretrained=.../w.pth" in card


def test_the_card_has_robustness_where_it_was_measured(exported):
    run, folder = exported
    accuracies = {"fog": [0.4] * 5}
    figures = {"examples": 24, "clean": 0.5, "corruptions": accuracies, "mean": 0.4}
    run.write_json("robustness.json", figures)
    assert "| Fog | 40.00 |" in model_card.write(run, folder).read_text()


def create(name: str, dtype=np.float32):
    return models.create(
        ConfigDict({"name": name, **SMALL.get(name, {})}), num_classes=5, dtype=dtype
    )


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_takes_a_symbolic_batch(name):
    """Nothing is lowered, which would take seconds for the large models."""
    model = create(name)
    transform = parse("resize(32)|normalize(imagenet)")
    shape = jax_export.symbolic_shape("b, 24, 20, 3")

    def init_and_apply(images):
        logits, _ = model.init_with_output(jax.random.key(0), transform(images))
        return logits

    logits = jax.eval_shape(init_and_apply, jax.ShapeDtypeStruct(shape, np.uint8))
    assert logits.shape == (shape[0], 5)


def with_weights(model):
    """What an export needs of a Predictor, with random weights."""
    transform = parse("normalize(.5, .25)")
    shape = (24, 20, 3)
    rng = np.random.default_rng(0)
    x = jax.eval_shape(transform, jax.ShapeDtypeStruct((1, *shape), np.uint8))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32) / 10, shapes)
    return SimpleNamespace(model=model, transform=transform, variables=variables, shape=shape)


def loaded(predictor) -> jax_export.Exported:
    return jax_export.deserialize(bytearray(export._program(predictor, VIEWS["none"])))


@pytest.mark.parametrize("name", [name for name in SMALL if name != "hybrid"])  # it is made of them
def test_a_program_is_the_same_wherever_it_was_written(name, monkeypatch):
    """Layers with gradients of their own on CPUs give the logits of XLA's layers."""
    predictor = with_weights(create(name))
    images = pictures(5, (24, 20, 3))
    program = loaded(predictor)
    assert program.platforms == ("cpu", "cuda", "tpu")
    monkeypatch.setattr(cpu_kernels, "enabled", lambda: False)

    @jax.jit
    def logits_of_xla(images):
        return predictor.model.apply(predictor.variables, predictor.transform(images))

    assert_same(np.asarray(program.call(images)), np.asarray(logits_of_xla(images)))


def test_a_bfloat16_model_gives_float32_logits():
    images = pictures(5, (24, 20, 3))

    def logits(dtype):
        program = loaded(with_weights(create("cnn", dtype)))
        return np.asarray(program.call(images))

    float32_logits = logits(np.float32)
    bfloat16_logits = logits(jnp.bfloat16)
    assert_same(bfloat16_logits, float32_logits, share=2e-2)
    assert (bfloat16_logits != float32_logits).any()
