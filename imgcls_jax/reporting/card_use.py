"""The part of a model card that says how its files are used: code that can be copied."""

from pathlib import Path

from imgcls_jax.data.image_files import Reader
from imgcls_jax.evaluation.export import PROGRAM, WEIGHTS
from imgcls_jax.evaluation.onnx import MODEL
from imgcls_jax.reporting import templates
from imgcls_jax.run.folder import RunFolder

MODES = {1: "L", 3: "RGB"}  # of Pillow, by the channels of an image
# How Pillow brings an image to the run's size, by `data.fit` of a run with `data.image_size`.
CROP = "ImageOps.fit(image, {size})"
RESIZES = {
    "stretch": "image.resize({size})",
    "pad": "ImageOps.pad(image, {size}, image.getpixel((0, 0)))",
}


def section(run: RunFolder, folder: Path) -> str:
    """Returns code for each program in the folder of an export, from an image file to a class."""
    height, width, channels = run.data["splits"]["train"]["shape"]
    reader = Reader.of(run.config.data, run.data)
    options = {
        "mode": MODES[channels],
        "resized": resizing(reader),
        "shape": f"{height}, {width}, {channels}",
    }
    macros = templates.markdown_macros("model_card.md.j2")
    parts = []
    if (folder / PROGRAM).exists():
        parts.append(macros.use(program=PROGRAM, weights=WEIGHTS, **options))
    if (folder / MODEL).exists():
        parts.append(macros.use_onnx(model=MODEL, **options))
    if parts:
        parts.append(note(reader))
    return "\n".join(parts)


def resizing(reader: Reader) -> str:
    """Returns the code that brings Pillow's `image` to the size of the run's, much as its reader."""
    height, width, _ = reader.shape
    code = RESIZES.get(reader.fit, CROP)
    return code.format(size=f"({width}, {height}), Image.Resampling.BILINEAR")


def note(reader: Reader) -> str:
    """What the run's reader does to an image and the code does not; "" if nothing."""
    notes = []
    if reader.digits:
        notes.append(str(reader))
    if reader.ground:
        notes.append(
            f"The run's images are {reader.ground} at the border: invert others, `255 - images`."
        )
    return " ".join(notes)
