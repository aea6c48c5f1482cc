"""`imgcls demo` as a process, and its page in headless Chromium, with a model of digits."""

import base64
import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import browsers
import numpy as np
import pytest
from limits import HANGS
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

import imgcls_jax
from imgcls_jax.data.image_files import as_mnist
from imgcls_jax.data.photos import sources
from tests.demo.conftest import png

pytest.importorskip("starlette", reason="starlette is not installed: requirements-demo.txt")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: requirements-demo.txt")

ROOT = Path(__file__).parents[2]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SEVEN = ((0.3, 0.2), (0.7, 0.2), (0.45, 0.75))  # shares of the paper
# Classifies a picture ten times at once, and returns the statuses and the first classes.
TEN_AT_ONCE = """async () => {
  const blob = await new Promise((resolve) => document.getElementById("pad").toBlob(resolve));
  const headers = {"Content-Type": "application/octet-stream"};
  const send = () => fetch("classify", {method: "POST", headers, body: blob});
  const responses = await Promise.all(Array.from({length: 10}, send));
  const answers = await Promise.all(responses.map((response) => response.json()));
  return answers.map((answer) => answer.classes[0].name);
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on scikit-learn's digits, made like MNIST's."""
    folder = tmp_path_factory.mktemp("demo")
    scans = load_digits()
    pixels = (scans.images * (255 / 16)).round().astype(np.uint8)
    images = np.stack([as_mnist(image) for image in pixels])
    labels = scans.target
    np.savez(
        folder / "digits.npz",
        x_train=images[:1500],
        y_train=labels[:1500],
        x_test=images[1500:],
        y_test=labels[1500:],
    )
    changes = {
        "data": {"source": "npz", "name": "scans", "path": str(folder / "digits.npz")},
        "data.transform": "random_crop(1)",
        "model.filters": (8, 16, 16),
        "train.epochs": 4,
    }
    config = imgcls_jax.load_config(ROOT / "configs" / "quickstart.py", **changes)
    return imgcls_jax.train(config, folder / "run")


@pytest.fixture(scope="module")
def address(run):
    """The page's address, of a process that Ctrl-C ends at last."""
    command = [sys.executable, "-m", "imgcls_jax", "demo", str(run.path), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        assert lines[0] == "Try run at\n"
        yield lines[1].strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(HANGS) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.fixture(scope="module")
def chromium():
    with browsers.launched(*CAMERA) as browser:
        yield browser


@pytest.fixture
def visit(chromium, address):
    """visit(**context): the page. Errors and requests of anything else fail the test."""
    complaints = []

    def note_message(message):
        if "status of 422" not in message.text:  # of a broken file
            complaints.append(message.text)

    def note_request(request):
        if not request.url.startswith((address, "data:", "blob:")):
            complaints.append(request.url)

    with contextlib.ExitStack() as stack:

        def open_page(**options):
            context = stack.enter_context(contextlib.closing(chromium.new_context(**options)))
            page = context.new_page()
            page.on("console", note_message)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", note_request)
            page.goto(address)
            return page

        yield open_page
    assert not complaints


def draw(page, points=SEVEN) -> None:
    box = page.locator("#pad").bounding_box()
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def choose(page, name: str, content: bytes) -> None:
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("#choose").set_input_files(file)


def seen(page) -> np.ndarray:
    """The pixels of the image as the model got it."""
    source = page.locator("#seen").get_attribute("src")
    content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_drawn_seven(options, visit):
    page = visit(**options)
    draw(page)
    page.locator("#verdict").wait_for()
    assert page.locator("#class").text_content() == "7"
    assert page.locator("#classes li").count() == 5
    assert page.get_by_text("What the model sees, inverted").is_visible()
    assert page.get_by_text("What speaks for 7 (Grad\u2011CAM)").is_visible()
    width = options["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Clear").click()
    assert not page.locator("#verdict").is_visible()
    assert page.get_by_role("button", name="Undo").is_disabled()


def test_a_drawing_in_a_corner_is_fitted_and_centred_by_mass(visit):
    page = visit()
    draw(page, ((0.1, 0.1), (0.12, 0.3)))
    page.locator("#verdict").wait_for()
    pixels = seen(page)
    assert pixels.shape == (28, 28)
    rows, columns = np.nonzero(pixels)
    assert np.ptp(rows) == 19 and np.ptp(columns) < 19
    np.testing.assert_allclose(ndimage.center_of_mass(pixels), (14, 14), atol=0.5)


def test_a_photo_is_chosen_pasted_and_dropped(visit):
    page = visit()
    photo = next(iter(sources().values())).read_bytes()
    choose(page, "photo.jpg", photo)
    page.locator("#verdict").wait_for()
    assert page.get_by_alt_text("The chosen image").is_visible()
    for event, data in (("paste", "clipboardData"), ("drop", "dataTransfer")):
        page.get_by_role("radio", name="Draw").check()
        assert page.locator("#pad").is_visible()
        transfer = page.evaluate_handle(
            """(bytes) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([new Uint8Array(bytes)], "a.png"));
              return transfer;
            }""",
            list(png(np.full((9, 9), 99, np.uint8))),
        )
        page.evaluate(
            """([transfer, event, data]) => {
              const init = {bubbles: true, cancelable: true, [data]: transfer};
              const type = event === "paste" ? ClipboardEvent : DragEvent;
              document.body.dispatchEvent(new type(event, init));
            }""",
            [transfer, event, data],
        )
        page.locator("#preview").wait_for()
        assert not page.locator("#pad").is_visible()


def test_a_photo_is_taken(visit):
    page = visit(permissions=["camera"])
    page.get_by_role("radio", name="Photo or file").check()
    page.get_by_role("button", name="Take a photo").click()
    page.get_by_role("button", name="Take", exact=True).click()
    page.locator("#verdict").wait_for()
    assert not page.locator("video").is_visible()


def test_a_broken_file_is_an_error_and_the_next_image_is_taken(visit):
    page = visit()
    choose(page, "<b>broken</b>.png", b"\x89PNG no image")
    error = page.get_by_role("alert")
    error.wait_for()
    assert "cannot be read as an image" in error.text_content()
    assert not page.locator("#preview").is_visible()
    page.get_by_role("radio", name="Draw").check()
    draw(page)
    page.locator("#verdict").wait_for()
    assert not error.is_visible()


def test_ten_requests_at_once(visit):
    page = visit()
    draw(page)
    page.locator("#verdict").wait_for()
    assert page.evaluate(TEN_AT_ONCE) == ["7"] * 10


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_colour_scheme(scheme, visit):
    page = visit(color_scheme=scheme)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")
    assert (int(colour[0]) > 127) == (scheme == "light")


def test_the_keyboard_reaches_everything(visit):
    page = visit()
    mode = page.get_by_role("radio", name="Draw")
    mode.focus()
    mode.press("ArrowRight")
    assert page.locator("#take").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
