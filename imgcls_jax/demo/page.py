"""The page's HTML, and the files it loads."""

from pathlib import Path

from markupsafe import Markup

from imgcls_jax.demo.model import DemoModel
from imgcls_jax.reporting import calibration, page, templates

FOLDER = Path(__file__).parent
# What the page loads, with its content type. page.css is that of all pages.
FILES = {
    "page.css": "text/css",
    "demo.css": "text/css",
    "demo.js": "text/javascript",
}
MAX_NAMED = 12  # classes that the page lists at once
SIDE = 448  # pixels of the paper to draw on
# Widths of the pen in pixels of the paper. MIN_PEN becomes two pixels where a digit is fitted into
# MNIST's box. On models of fewer pixels a line is as wide as PEN_PIXELS of theirs.
MIN_PEN = 34
PEN_PIXELS = 1.2
# What the dialog for files offers. Phones convert photos of other formats to one of these.
ACCEPT = (
    "image/png, image/jpeg, image/webp, image/gif, image/bmp, image/avif, image/tiff, .jp2, .tga"
)


def render(model: DemoModel, *, max_bytes: int) -> Markup:
    """Returns the page of a model. max_bytes: of a file that is sent."""
    classifier = model.classifier
    height, _, channels = classifier.shape
    is_grayscale = channels == 1
    invitation = "drop, paste, choose or take a photo, or draw."
    if classifier.reader.digits:
        invitation = "draw a digit, or drop, paste, choose or photograph one."
    return templates.render(
        "demo.html",
        name=classifier.name,
        invitation=invitation,
        max_bytes=max_bytes,
        draws_first=is_grayscale,
        side=SIDE,
        pen=max(MIN_PEN, round(PEN_PIXELS * SIDE / height)),
        accept=ACCEPT,
        preparation=str(classifier.reader),
        calibration=calibration.confidence_sentence(model.temperature),
        has_maps=model.has_maps,
        class_names=classifier.class_names,
        num_classes=len(classifier.class_names),
        is_open=len(classifier.class_names) <= MAX_NAMED,
    )


def read(name: str) -> str:
    """Returns the content of one of FILES."""
    folder = FOLDER
    if name == "page.css":
        folder = page.FOLDER
    return (folder / name).read_text()
