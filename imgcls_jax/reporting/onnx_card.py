"""What the model card says of a run's ONNX models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls_jax.evaluation import paired
from imgcls_jax.evaluation.onnx import FIGURES, INT8_MODEL, MODEL
from imgcls_jax.reporting import templates
from imgcls_jax.reporting.plain_tables import Markdown, code, markdown_table
from imgcls_jax.run.folder import RunFolder

HEAD = ("", "MB", "Images/s", "Accuracy, %")


def section(folder: Path) -> str:
    """Returns the figures of the ONNX models in the folder of an export; "" if it has none.

    Raises RunError if they are damaged.
    """
    if not (folder / FIGURES).exists():
        return ""
    figures = RunFolder(folder).read_json(FIGURES)
    floats = figures["float32"]
    rows = [
        _row(f"the run, in JAX{_device(figures['run'])}", figures["run"]),
        _row(code(MODEL), floats),
    ]
    quantized = figures.get("int8")
    calibration_images = ""
    comparison = ""
    if quantized:
        rows.append(_row(code(INT8_MODEL), quantized))
        calibration_images = quantized["calibration_images"]
        comparison = paired.sentence("int8", "float32", quantized["against_float32"])
    versions = []
    for package, version in figures["versions"].items():
        versions.append(f"{package} {version}")
    table = markdown_table(HEAD, rows, figures=(1, 2, 3))
    return templates.markdown_macros("model_card.md.j2").onnx(
        table=Markdown(table),
        images=f"{figures['images']:,}",
        difference=f"{floats['largest_difference']:.0e}",
        versions=", ".join(versions),
        batch_size=figures["batch_size"],
        cores=figures["cores"],
        calibration_images=calibration_images,
        comparison=comparison,
    )


def _device(figures: Mapping[str, Any]) -> str:
    """Where the run was measured, if not on the cores on which the models were."""
    platform = figures.get("platform", "cpu")
    if platform == "cpu":
        return ""
    return f" on its {platform.upper()}"


def _row(name: str, figures: Mapping[str, Any]) -> tuple[str, str, str, str]:
    megabytes = ""
    if "bytes" in figures:
        megabytes = f"{figures['bytes'] / 1e6:.2f}"
    speed = f"{figures['images_per_second']:,.0f}"
    accuracy = f"{100 * figures['accuracy']:.2f}"
    return name, megabytes, speed, accuracy
