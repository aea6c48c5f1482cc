"""A run as one HTML file that classifies images in the browser, without a server or a network.

The file holds the ONNX model and ONNX Runtime for browsers, which npm brings.
"""

import base64
import gzip
from pathlib import Path

from markupsafe import Markup

from imgcls_jax.config import trial
from imgcls_jax.data.image_files import MNIST_BOX, Reader
from imgcls_jax.errors import ConfigError
from imgcls_jax.evaluation.calibration import best_temperature
from imgcls_jax.evaluation.onnx import MODEL, PAGE
from imgcls_jax.files import write_atomically
from imgcls_jax.reporting import formats, templates
from imgcls_jax.reporting.calibration import confidence_sentence
from imgcls_jax.reporting.page import FOLDER, scripts
from imgcls_jax.run.folder import RunFolder

RUNTIME = Path("node_modules") / "onnxruntime-web" / "dist"
# The files of RUNTIME that a page holds, by the names of its elements.
PARTS = {
    "runtime": "ort.wasm.bundle.min.mjs",
    "wasm": "ort-wasm-simd-threaded.wasm",
}


def require_runtime() -> None:
    """Raises ConfigError if ONNX Runtime for browsers is not in the current folder."""
    for file in PARTS.values():
        if not (RUNTIME / file).is_file():
            raise ConfigError(
                f"{RUNTIME / file} is missing: `npm install onnxruntime-web` in this folder "
                "brings ONNX Runtime for browsers."
            )


def write(run: RunFolder, folder: Path) -> Path:
    """Writes PAGE of a run, whose MODEL is in this folder, beside it; returns its path.

    Raises ConfigError if ONNX Runtime for browsers is missing.
    """
    require_runtime()
    contents = {"model": _packed(folder / MODEL)}
    for element, file in PARTS.items():
        contents[element] = _packed(RUNTIME / file)
    reader = Reader.of(run.config.data, run.data)
    temperature = best_temperature(run)
    test = run.test
    html = templates.render(
        "browser_page.html",
        name=run.name,
        css=Markup((FOLDER / "page.css").read_text()),
        lead=(
            f"{run.config.model.name}, right on {formats.percent(test['accuracy'])} of "
            f"{test['examples']:,} test images. {trial.warning(run.config)}"
        ).strip(),
        note=confidence_sentence(temperature),
        draws=reader.shape[2] == 1,
        settings={
            "shape": reader.shape,
            "classes": run.data["class_names"],
            "temperature": temperature or 1.0,
            "ground": reader.ground,
            "digits": reader.digits,
            "fit": reader.fit,
            "box": MNIST_BOX,
        },
        contents=contents,
        script=Markup(scripts("browser_page.js")),
    )
    path = folder / PAGE
    write_atomically(path, html.encode())
    return path


def _packed(file: Path) -> str:
    """The content of a file, compressed, as text."""
    compressed = gzip.compress(file.read_bytes(), mtime=0)
    return base64.b64encode(compressed).decode()
