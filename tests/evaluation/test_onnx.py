"""Runs as ONNX models: the logits of Flax for every architecture, int8, and what is refused."""

import base64
import dataclasses
import gzip
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import browsers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from ml_collections import ConfigDict
from PIL import Image
from small_models import SMALL

import imgcls_jax
from imgcls_jax import data, models
from imgcls_jax.commands import export as command
from imgcls_jax.data.image_files import Reader
from imgcls_jax.data.transforms import parse
from imgcls_jax.data.views import VIEWS
from imgcls_jax.errors import ConfigError, RunError
from imgcls_jax.evaluation import calibration, classifiers
from imgcls_jax.models import convnext, efficientnet, resnet
from imgcls_jax.models.cifar_resnet import ResNet20
from imgcls_jax.reporting import browser_page, onnx_card
from imgcls_jax.training.train_step import eval_step

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from imgcls_jax.evaluation.onnx import FIGURES, INT8_MODEL, MODEL, PAGE  # noqa: E402
from imgcls_jax.evaluation.onnx import export as onnx_export  # noqa: E402
from imgcls_jax.evaluation.onnx.graph import convert  # noqa: E402
from imgcls_jax.evaluation.onnx.runtime import OnnxClassifier  # noqa: E402
from imgcls_jax.run.folder import RunFolder  # noqa: E402

ROOT = Path(__file__).parents[2]
SHAPE = (24, 20, 3)
STAGES = (
    efficientnet.Stage(False, 1, 3, 1, 8, 1),
    efficientnet.Stage(False, 4, 5, 2, 8, 2),
)
FUSED_STAGES = (efficientnet.Stage(True, 4, 3, 2, 8, 2), STAGES[1])
EfficientNet = partial(efficientnet.EfficientNet, transform_input=True)
ResNet = partial(resnet.ResNet, blocks=(1, 1, 1, 1))
# Every model of models.MODELS, made small: by its options, or as a module.
SMALL_OPTIONS = {
    **SMALL,
    "simclr": {"options": {"width": 4, "blocks": (1, 1, 1)}},
    "googlenet": {},
}
SMALL_MODULES = {
    "resnet18": partial(ResNet, bottleneck=False, style=resnet.TORCHVISION),
    "resnet50": partial(ResNet, bottleneck=True, style=resnet.TORCHVISION),
    "resnet50_keras": partial(ResNet, bottleneck=True, style=resnet.KERAS),
    "efficientnet_b0": partial(EfficientNet, stages=STAGES, style=efficientnet.TORCHVISION),
    "efficientnetv2_b0": partial(EfficientNet, stages=FUSED_STAGES, style=efficientnet.KERAS),
    "efficientnet_lite0": partial(EfficientNet, stages=STAGES, style=efficientnet.LITE),
    "convnext_tiny": partial(convnext.ConvNeXt, widths=(4, 8, 8, 8), blocks=(1, 1, 1, 1)),
}


def small(name: str):
    if name in SMALL_MODULES:
        return SMALL_MODULES[name](num_classes=5)
    return models.create(ConfigDict({"name": name, **SMALL_OPTIONS[name]}), num_classes=5)


def pictures(count: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def with_weights(model, transform: str):
    """What `to_onnx` needs of a Predictor, with random weights and statistics."""
    rng = np.random.default_rng(0)

    def weights(path, leaf):
        if path[-1].key in ("var", "scale"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1])
        return rng.normal(0, 1 / np.sqrt(fan_in), leaf.shape).astype(np.float32)

    transform = parse(transform)
    x = jax.eval_shape(transform, jax.ShapeDtypeStruct((1, *SHAPE), np.uint8))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = jax.tree_util.tree_map_with_path(weights, shapes)
    return SimpleNamespace(model=model, transform=transform, variables=variables, shape=SHAPE)


def check(predictor, views=VIEWS["none"]) -> None:
    """Compares an ONNX model with Flax' on batches of 1, 3 and 7 images."""

    @jax.jit
    def flax_logits(variables, images):
        x = predictor.transform(images)
        return eval_step(predictor.model, variables, x, tta=views)

    images = pictures(7)
    program = flax_logits.lower(predictor.variables, images)
    quick_to_compile = {"xla_backend_optimization_level": 0}
    expected = np.asarray(program.compile(quick_to_compile)(predictor.variables, images))
    model = onnx_export.to_onnx(predictor, views, {"name": "small"})
    classifier = OnnxClassifier(model.SerializeToString())
    for count in (1, 3, 7):
        logits = classifier.logits(images[:count])
        assert logits.dtype == np.float32
        tolerance = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(logits, expected[:count], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_architecture_gives_the_logits_of_flax_for_any_batch(name):
    size = 32 if name in ("googlenet", "convnext_tiny") else 16
    check(with_weights(small(name), f"resize({size})|normalize(imagenet)"))


@pytest.mark.parametrize("fusion", ["adaptive", "attention"])
def test_fusions_and_heads_of_the_hybrid(fusion):
    options = {"fusion": fusion, "head_kind": "normalized", **SMALL_OPTIONS["hybrid"]}
    model = models.create(ConfigDict({"name": "hybrid", **options}), num_classes=5)
    check(with_weights(model, "resize(16)"))


def test_preprocessing_and_views_are_in_the_model():
    transform = "bgr|resize(20, bicubic)|center_crop(16)|normalize(caffe)"
    check(with_weights(small("cnn"), transform), VIEWS["flip_shift"])


def test_batch_norm_is_part_of_the_kernels_and_a_bfloat16_model_computes_in_float32():
    model = ResNet20(num_classes=5, width=4, blocks=(1, 1, 1), dtype=jnp.bfloat16)
    predictor = with_weights(model, "")
    content = onnx_export.to_onnx(predictor, VIEWS["none"], {})
    operators = [node.op_type for node in content.graph.node]
    assert operators.count("Conv") == 9
    assert operators.count("Add") == 3  # of the shortcuts
    assert operators.count("Transpose") == 2  # at both ends
    assert "Mul" not in operators
    x = predictor.transform(pictures(2))
    expected = model.clone(dtype=jnp.float32).apply(predictor.variables, x)
    logits = OnnxClassifier(content.SerializeToString()).logits(pictures(2))
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


def test_an_operation_without_an_onnx_form_is_named():
    def sorts(images):
        return lax.sort(images.reshape(images.shape[0], -1).astype(jnp.float32))

    with pytest.raises(RunError, match="has the operation sort, which cannot be written as ONNX"):
        convert({"network": sorts}, (2, 2, 1), {})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """The quick start's run in small, after two epochs."""
    changes = {
        "model.filters": (8, 8),
        "data.transform": "resize(16)",
        "train.epochs": 2,
        "train.tta": "flip",
    }
    config = imgcls_jax.load_config(ROOT / "configs" / "quickstart.py", **changes)
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    return RunFolder(imgcls_jax.train(config, folder).path)


@pytest.fixture(scope="module")
def exported(run):
    """The folder of its export, in float32 and int8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imgcls_jax.evaluation.onnx.runtime.MIN_SECONDS", 0.0)
        command.export([str(run.path)], "onnx", with_int8=True)
    return run.path / "export"


def test_the_figures_are_those_of_the_run_and_the_test_set(run, exported):
    figures = json.loads((exported / FIGURES).read_text())
    assert figures["images"] == 359
    assert figures["run"]["accuracy"] == run.test["accuracy"]
    assert figures["float32"]["accuracy"] == run.test["accuracy"]
    assert figures["float32"]["largest_difference"] < 1e-5
    assert figures["float32"]["bytes"] == (exported / MODEL).stat().st_size
    probabilities, labels = run.predictions
    images = data.load(run.config.data).test.images
    logits = OnnxClassifier((exported / MODEL).read_bytes()).logits(images)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(expected, probabilities, atol=1e-4)

    quantized = figures["int8"]
    logits = OnnxClassifier((exported / INT8_MODEL).read_bytes()).logits(images)
    right = logits.argmax(-1) == labels
    assert quantized["accuracy"] == right.mean()
    assert quantized["bytes"] < 0.6 * figures["float32"]["bytes"]
    assert quantized["calibration_images"] == 144
    comparison = quantized["against_float32"]
    difference = quantized["accuracy"] - figures["float32"]["accuracy"]
    assert comparison["difference"] == pytest.approx(difference)
    assert abs(difference) < 0.05
    assert 0 <= comparison["p"] <= 1


def test_the_card_shows_them_and_its_snippet_classifies_a_file(run, exported):
    card = (exported / "README.md").read_text()
    figures = json.loads((exported / FIGURES).read_text())
    assert f"| `{MODEL}` | {figures['float32']['bytes'] / 1e6:.2f} |" in card
    assert f"| `{INT8_MODEL}` | {figures['int8']['bytes'] / 1e6:.2f} |" in card
    assert "compared with the run's on all 359 test images" in card
    assert "| the run, in JAX |" in card
    of_gpu = exported.parent / "gpu"
    of_gpu.mkdir()
    figures["run"]["platform"] = "gpu"
    (of_gpu / FIGURES).write_text(json.dumps(figures))
    assert "| the run, in JAX on its GPU |" in onnx_card.section(of_gpu)
    assert "Between int8 and float32" in card or "is better: by" in card
    assert "model.jaxexport" not in card
    Image.fromarray(pictures(1)[0]).save(exported / "image.png")
    (snippet,) = card.split("```python\n")[1:]
    process = subprocess.run(
        [sys.executable, "-c", snippet.split("```")[0]],
        cwd=exported,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    name, confidence = process.stdout.split()
    assert name in run.data["class_names"]
    assert 0 < float(confidence) <= 1


def test_int8_is_calibrated_on_images_of_all_classes(run, exported, monkeypatch):
    splits = data.load(run.config.data)
    by_class = splits.validation.take(np.argsort(splits.validation.labels))
    splits = dataclasses.replace(splits, validation=by_class)
    content = (exported / MODEL).read_bytes()
    calibrated = []

    def quantize(model, images, *, float_scope):
        calibrated.extend(image.tobytes() for image in images)
        return content

    monkeypatch.setattr(onnx_export.int8, "quantize", quantize)
    monkeypatch.setattr(onnx_export, "MAX_CALIBRATION", 60)
    logits = OnnxClassifier(content).logits(splits.test.images)
    _, figures = onnx_export._int8(None, splits, logits)
    assert figures["calibration_images"] == len(calibrated) == 60
    class_of = {}
    for image, label in zip(by_class.images, by_class.labels, strict=True):
        class_of[image.tobytes()] = int(label)
    assert {class_of[image] for image in calibrated} == set(range(10))


def test_an_export_removes_what_is_of_another_model_alone(run, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("imgcls_jax.evaluation.onnx.runtime.MIN_SECONDS", 0.0)
    copy = tmp_path / run.name  # which is in the model
    shutil.copytree(run.path, copy)
    folder = copy / "export"
    (folder / PAGE).write_text("<html>")
    before = json.loads((folder / FIGURES).read_text())
    command.export([str(copy)], "onnx")
    assert (folder / INT8_MODEL).exists() and (folder / PAGE).exists()
    assert json.loads((folder / FIGURES).read_text())["int8"] == before["int8"]
    (folder / MODEL).write_bytes(b"of other weights")
    command.export([str(copy)], "onnx")
    assert not (folder / INT8_MODEL).exists() and not (folder / PAGE).exists()
    assert "int8" not in json.loads((folder / FIGURES).read_text())


def test_an_export_of_onnx_alone_is_no_classifier_here(exported):
    with pytest.raises(RunError, match="export holds a model for ONNX Runtime alone. Give the run"):
        classifiers.load(exported)


@pytest.mark.parametrize("content", [b"{}", b"[", b"\xff", b'{"run": 5}'])
def test_damaged_figures_are_named(content, tmp_path):
    (tmp_path / FIGURES).write_bytes(content)
    with pytest.raises(RunError, match=f"{FIGURES}"):
        onnx_card.section(tmp_path)


def test_a_model_that_differs_is_not_written(run, exported, monkeypatch):
    monkeypatch.setattr(onnx_export, "tta_views", lambda config: VIEWS["none"])
    monkeypatch.setattr(onnx_export, "EXPORT", "other")
    message = "differ from the run's by up to .* test image .* another class. Nothing is written"
    with pytest.raises(RunError, match=message):
        command.export([str(run.path)], "onnx")
    assert not (run.path / "other").exists()


def test_what_does_not_fit_is_refused(run, exported, monkeypatch):
    with pytest.raises(ConfigError, match="--int8 is for ONNX: add --format onnx"):
        command.export([str(run.path)], "jax", with_int8=True)
    for module in list(sys.modules):
        if module.startswith("imgcls_jax.evaluation.onnx."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("imgcls_jax.evaluation.onnx.export")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[onnx\]"'):
        command.export([str(run.path)], "onnx")


def test_a_page_holds_model_and_runtime(run, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="npm install onnxruntime-web"):
        command.export([str(run.path)], "html")
    browser_page.RUNTIME.mkdir(parents=True)
    for file in browser_page.PARTS.values():
        (browser_page.RUNTIME / file).write_bytes(file.encode())
    html = browser_page.write(run, exported).read_text()
    (settings,) = re.findall('id="settings">(.*?)</script>', html)
    settings = json.loads(settings)
    assert settings["shape"] == [8, 8, 1]
    assert settings["classes"] == list("0123456789")
    assert settings["temperature"] == calibration.best_temperature(run)
    contents = dict(re.findall(r'<script type="text/plain" id="(\w+)">(.*?)</script>', html))
    model = gzip.decompress(base64.b64decode(contents["model"]))
    assert model == (exported / MODEL).read_bytes()
    assert (
        gzip.decompress(base64.b64decode(contents["wasm"])) == browser_page.PARTS["wasm"].encode()
    )
    assert "http:" not in html and "https:" not in html


@pytest.fixture
def page(run, exported, monkeypatch):
    """The page of the run in Chromium, with ONNX Runtime of this checkout's node_modules."""
    if not (ROOT / browser_page.RUNTIME).is_dir():
        pytest.skip("needs `npm install onnxruntime-web` in this folder")
    monkeypatch.chdir(ROOT)
    path = browser_page.write(run, exported)
    with browsers.launched() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]")
        yield page


# Stands for ONNX Runtime: its model finds nothing.
NO_RUNTIME = """
export const env = { wasm: {} };
export class Tensor {}
export const InferenceSession = {
  create: async () => ({ run: async () => ({ logits: { data: [0, 0] } }) }),
};
"""
SEEN = """() => {
  const { width, height } = document.getElementById("seen");
  const context = document.getElementById("seen").getContext("2d");
  return [...context.getImageData(0, 0, width, height).data];
}"""


def black_on_transparent(side: int) -> Image.Image:
    pixels = np.zeros((side, side, 4), np.uint8)
    quarter = side // 4
    pixels[quarter:-quarter, quarter : 2 * quarter, 3] = 255
    pixels[-2 * quarter : -quarter, quarter:-quarter, 3] = 255
    return Image.fromarray(pixels)


def red_with_a_blue_corner() -> Image.Image:
    pixels = np.zeros((8, 16, 3), np.uint8) + np.array([200, 30, 30], np.uint8)
    pixels[0, 0] = (0, 0, 255)
    return Image.fromarray(pixels)


def test_the_page_sees_files_as_predict_does(run, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    browser_page.RUNTIME.mkdir(parents=True)
    for file in browser_page.PARTS.values():
        (browser_page.RUNTIME / file).write_text(NO_RUNTIME)
    digits = Reader((28, 28, 1), ground="dark", digits=True)
    small_digit = Image.fromarray(pictures(1, (28, 28))[0] // 4)
    cases = [
        (digits, small_digit, 0),
        (digits, black_on_transparent(56), 8),  # they smooth differently
        (Reader((8, 8, 3), fit="pad"), red_with_a_blue_corner(), 8),
        (Reader((8, 8, 3)), black_on_transparent(8), 0),
    ]
    with browsers.launched() as browser:
        for reader, image, tolerance in cases:
            image.save("image.png")
            monkeypatch.setattr(browser_page.Reader, "of", lambda *_, reader=reader: reader)
            page = browser.new_page()
            page.goto(browser_page.write(run, exported).as_uri())
            page.wait_for_selector("body[data-ready]")
            page.set_input_files("#file", "image.png")
            page.wait_for_selector("#classes li")
            seen = np.array(page.evaluate(SEEN)).reshape(*reader.shape[:2], 4)
            expected, _ = reader("image.png")
            difference = np.abs(seen[..., : reader.shape[2]] - expected.astype(int))
            assert difference.mean() <= tolerance, reader


def confidences(page) -> list[float]:
    page.wait_for_selector("#classes li")
    return [float(text.split()[0]) for text in page.locator("#classes b").all_inner_texts()]


def test_the_page_classifies_files_and_drawings_as_the_model_does(run, exported, page, tmp_path):
    image = data.load(run.config.data).test.images[0]
    Image.fromarray(image[..., 0]).save(tmp_path / "digit.png")
    page.set_input_files("#file", tmp_path / "digit.png")
    classifier = OnnxClassifier((exported / MODEL).read_bytes())
    logits = classifier.logits(image[None])[0] / calibration.best_temperature(run)
    expected = np.sort(np.exp(logits) / np.exp(logits).sum())[::-1]
    assert confidences(page) == pytest.approx(100 * expected[:5], abs=0.06)
    (tmp_path / "broken.png").write_bytes(b"no image")
    page.set_input_files("#file", tmp_path / "broken.png")
    page.wait_for_selector("#message:has-text('broken.png cannot be read')")
    box = page.locator("#drawing").bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 240, steps=5)
    page.mouse.up()
    page.wait_for_selector("#message:empty", state="attached")
    assert confidences(page) != pytest.approx(100 * expected[:5], abs=0.06)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
