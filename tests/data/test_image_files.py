import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from scipy import ndimage

from imgcls_jax.data.folder import read_image
from imgcls_jax.data.image_files import Reader, as_mnist, find
from imgcls_jax.errors import DataError

DIGITS = tuple("0123456789")


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return str(path)


def report(shape=(28, 28, 1), mean=33.0, names=DIGITS, light_borders=None):
    split = {"shape": list(shape), "pixel_mean": mean}
    if light_borders is not None:
        split["light_borders"] = light_borders
    return {"class_names": list(names), "splits": {"train": split}}


def test_files_folders_and_globs_keep_the_order_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d/inner/.hidden").mkdir(parents=True)
    for name in (
        "b.png",
        "a.png",
        "d/z.JPG",
        "d/inner/y.tiff",
        "d/.x.png",
        "d/inner/.hidden/w.png",
        "d/notes.txt",
    ):
        (tmp_path / name).touch()
    folder = ["d/inner/y.tiff", "d/z.JPG"]
    assert find(["./b.png", "d", "a.png"]) == ["./b.png", *folder, "a.png"]
    assert find(["*.png", "b.png"]) == ["a.png", "b.png", "b.png"]
    assert find(["*"]) == ["a.png", "b.png", *folder]
    assert find(["**/*.tiff"]) == ["d/inner/y.tiff"]
    assert find(["d/notes.txt"]) == ["d/notes.txt"]  # what is named is taken for an image
    (tmp_path / "[ab].png").touch()
    assert find(["[ab].png"]) == ["[ab].png"]


def test_what_leads_nowhere_is_an_error_when_it_is_read(tmp_path):
    (tmp_path / "empty").mkdir()
    paths = [str(tmp_path / name) for name in ("empty", "missing.png", "*.gif")]
    assert find(paths) == paths
    for path, message in zip(
        paths, ("is a folder without image files", "No such file", "No such file"), strict=True
    ):
        with pytest.raises(DataError, match=message):
            Reader((8, 8, 3))(path)


def images():
    """By mode, an image that has this mode once it is saved with the suffix."""
    base = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 21, 3)).astype(np.uint8))
    gray = np.asarray(base.convert("L"))
    return {mode: (base.convert(mode), "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")} | {
        "I;16": (Image.fromarray(gray.astype(np.uint16) * 257), "png"),
        "F": (Image.fromarray(gray.astype(np.float32) / 255), "tif"),
        "CMYK": (base.convert("CMYK"), "jpg"),
    }


@pytest.mark.parametrize(
    "shape, digits", [((8, 8, 1), False), ((28, 28, 1), True), ((24, 40, 3), False)]
)
@pytest.mark.parametrize("mode", images())
def test_every_mode_becomes_the_shape_of_the_run(tmp_path, mode, shape, digits):
    image, suffix = images()[mode]
    image.save(tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as stored:
        assert stored.mode == mode
    pixels, inverted = Reader(shape, ground="dark", digits=digits)(tmp_path / f"a.{suffix}")
    assert pixels.shape == shape and pixels.dtype == np.uint8 and pixels.max() > pixels.min()
    assert isinstance(inverted, bool)


def test_16_bits_are_read_as_8_are(tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (30, 50))
    eight = save(tmp_path / "8.png", gray)
    Image.fromarray((gray * 257).astype(np.uint16)).save(tmp_path / "16.png")
    reader = Reader((28, 28, 1))
    np.testing.assert_array_equal(reader(eight)[0], reader(tmp_path / "16.png")[0])


def test_an_image_of_the_size_is_taken_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 100, (28, 28))
    path = save(tmp_path / "a.png", pixels)
    for digits in (False, True):
        reader = Reader((28, 28, 1), ground="dark", digits=digits)
        image, inverted = reader(path)
        np.testing.assert_array_equal(image[..., 0], pixels)
        assert not inverted


def test_what_is_cut_is_the_longer_side_and_shrinking_smooths(tmp_path):
    """A checkerboard, which sampling without smoothing would leave, between black margins."""
    pixels = np.zeros((64, 128, 3))
    pixels[:, 32:96] = 255 * (np.indices((64, 64)).sum(0) % 2)[..., None]
    reader = Reader((8, 8, 3))
    image, _ = reader(save(tmp_path / "wide.png", pixels))
    assert np.abs(image[:, 1:-1].astype(int) - 127).max() <= 4
    turned, _ = reader(save(tmp_path / "high.png", pixels.swapaxes(0, 1)))
    assert np.abs(turned[1:-1].astype(int) - 127).max() <= 4


@pytest.mark.parametrize(
    "fit, words", [("stretch", "without keeping"), ("crop", "are cut"), ("pad", "are padded")]
)
def test_images_are_made_square_as_the_runs_were(tmp_path, fit, words):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (20, 60, 3)))
    config = ConfigDict({"image_size": 16, "fit": fit})
    reader = Reader.of(config, report((16, 16, 3), 120.0, "ab"))
    image, _ = reader(path)
    np.testing.assert_array_equal(image, read_image(path, channels=3, image_size=16, fit=fit))
    assert words in str(reader)


def test_runs_without_the_option_fit_get_stretched_images(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (20, 60, 3)))
    stretching = Reader.of(ConfigDict({"image_size": 16}), report((16, 16, 3), 120.0, "ab"))
    stretched, _ = stretching(path)
    np.testing.assert_array_equal(stretched, read_image(path, channels=3, image_size=16))
    assert "without keeping" in str(stretching)
    cropping = Reader.of(ConfigDict({"image_size": 0}), report((16, 16, 3), 120.0, "ab"))
    cropped, _ = cropping(path)
    assert (cropped != stretched).any()
    assert "are cut" in str(cropping)


@pytest.mark.parametrize(
    "data_report, ground, digits",
    [
        (report(light_borders=0.0), "dark", True),  # MNIST
        (report(mean=73.0, names="ab", light_borders=0.005), "dark", False),
        (report(mean=120.0, names="ab", light_borders=0.0), "dark", False),
        (report(mean=150.0, names="ab", light_borders=1.0), "light", False),
        (report(mean=60.0, names="ab", light_borders=0.1), "", False),  # photographs
        (report(mean=200.0, names="ab", light_borders=0.9), "", False),
        # As runs of earlier versions have them.
        (report(), "dark", True),  # MNIST
        (report(mean=73.0), "dark", False),  # Fashion-MNIST
        (report(names=("a", "b")), "dark", False),
        (report(shape=(8, 8, 1)), "dark", False),
        (report(mean=120.0), "", False),  # neither
        (report(mean=222.0), "light", False),
        (report(shape=(28, 28, 3)), "", False),
    ],
)
def test_the_data_report_says_how_images_should_look(data_report, ground, digits):
    reader = Reader.of(ConfigDict(), data_report)
    assert (reader.ground, reader.digits, reader.fit) == (ground, digits, "")


@pytest.mark.parametrize(
    "ground, light, inverted",
    [
        ("dark", True, True),
        ("dark", False, False),
        ("light", True, False),
        ("light", False, True),
        ("", True, False),
        ("", False, False),
    ],
)
def test_images_on_the_other_ground_are_inverted(tmp_path, ground, light, inverted):
    dark = np.full((8, 8), 20)
    dark[:, 3:6] = 230  # across the border too
    pixels = 255 - dark if light else dark
    reader = Reader((8, 8, 1), ground=ground)
    image, was_inverted = reader(save(tmp_path / "a.png", pixels))
    assert was_inverted is inverted
    expected = 255 - pixels if inverted else pixels
    np.testing.assert_array_equal(image[..., 0], expected)


def test_a_transparent_ground_is_paper(tmp_path):
    """What is transparent becomes white, and is then inverted."""
    pen = np.zeros((8, 8, 4))
    pen[3:5, 3:5, 3] = 255
    reader = Reader((8, 8, 1), ground="dark")
    image, inverted = reader(save(tmp_path / "a.png", pen))
    assert inverted
    assert image[4, 4, 0] == 255
    assert image[0, 0, 0] == 0


def seven(height=60, width=90, x=30, y=8, ground=0, ink=255):
    image = np.full((height, width), ground, np.uint8)
    image[y : y + 4, x : x + 20] = image[y : y + 40, x + 16 : x + 20] = ink
    return image


def test_digits_are_made_as_mnists_are():
    digit = as_mnist(seven())
    rows = np.flatnonzero(digit.any(1))
    columns = np.flatnonzero(digit.any(0))
    # 40x20 in a box of 20x20.
    assert np.ptp(rows) == 19
    assert np.ptp(columns) == 9
    np.testing.assert_allclose(ndimage.center_of_mass(digit), 14, atol=0.5)
    assert digit.max() == 255


@pytest.mark.parametrize(
    "other",
    [{"x": 60, "y": 15}, {"height": 90, "width": 45, "x": 3}, {"ground": 40, "ink": 200}],
    ids=str,
)
def test_place_paper_and_light_make_no_difference(other):
    np.testing.assert_array_equal(as_mnist(seven(**other)), as_mnist(seven()))


def test_size_makes_little_difference_and_neither_does_noise():
    large = seven().repeat(12, 0).repeat(12, 1)
    noise = np.random.default_rng(0).normal(0, 15, large.shape)
    noisy = (large * 0.6 + 50 + noise).clip(0, 255).astype(np.uint8)
    expected = as_mnist(seven())
    for image in (large, noisy):
        digit = as_mnist(image).astype(int)
        # The centre may be rounded to another pixel.
        shifted = [np.roll(digit, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        differences = [np.abs(image - expected).mean() for image in shifted]
        assert min(differences) < 3


@pytest.mark.parametrize(
    "image",
    [np.full((5, 70), 9), np.zeros((28, 28)), np.ones((1, 1))],
    ids=["grey", "black", "dot"],
)
def test_an_image_without_strokes_becomes_black(image):
    assert not as_mnist(image.astype(np.uint8)).any()
