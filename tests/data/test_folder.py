import numpy as np
import pytest
from PIL import Image

from imgcls_jax.data.folder import find_images, read_folder, read_image
from imgcls_jax.errors import DataError


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def colour(value, size=(4, 5)):
    return np.full((*size, 3), value)


def load(path, image_size=0):
    return {
        split: data.in_memory()
        for split, data in read_folder(find_images(path), image_size=image_size).items()
    }


def test_classes_are_the_sorted_folders(tmp_path):
    save(tmp_path / "train/dog/a.png", colour(1))
    save(tmp_path / "train/cat/b.png", colour(2))
    save(tmp_path / "train/cat/a.png", colour(3))
    save(tmp_path / "test/dog/x.png", colour(4))
    save(tmp_path / "test/cat/x.jpg", colour(5))
    data = load(tmp_path)
    assert data["train"].class_names == data["test"].class_names == ("cat", "dog")
    train = data["train"]
    assert train.images[:, 0, 0, 0].tolist() == [3, 2, 1]
    assert train.labels.tolist() == [0, 0, 1]
    assert train.images.shape == (3, 4, 5, 3)
    assert train.labels.dtype == np.int32
    assert data["test"].images[:, 0, 0, 0].tolist() == [5, 4]


def test_classes_right_below_the_path_have_no_test_set(tmp_path):
    save(tmp_path / "b/1.png", colour(1))
    save(tmp_path / "train/1.png", colour(2))
    data = load(tmp_path)
    assert list(data) == ["train"]
    assert data["train"].class_names == ("b", "train")


def test_hidden_files_are_ignored_and_images_among_them_named(tmp_path, caplog):
    save(tmp_path / "a/1.png", colour(1))
    save(tmp_path / "a/.2.png", colour(1))
    (tmp_path / "a/.DS_Store").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "labels.txt").write_text("a")
    assert len(load(tmp_path)["train"]) == 1
    assert f"Not used of {tmp_path}: a/.2.png (hidden)." in caplog.text
    assert ".DS_Store" not in caplog.text


def test_grayscale_gives_one_channel_unless_one_image_has_colour(tmp_path):
    save(tmp_path / "a/1.png", np.full((4, 5), 7))
    save(tmp_path / "b/1.png", np.dstack([np.full((4, 5), 9), np.full((4, 5), 255)]))
    images = load(tmp_path)["train"].images
    assert images.shape == (2, 4, 5, 1) and images[:, 0, 0, 0].tolist() == [7, 9]
    save(tmp_path / "b/2.png", colour(3))
    images = load(tmp_path)["train"].images
    assert images.shape == (3, 4, 5, 3) and images[0, 0, 0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("alpha, expected", [(0, 255), (255, 100), (51, 224)])
def test_what_is_transparent_becomes_white(tmp_path, alpha, expected):
    rgba = save(tmp_path / "a.png", np.dstack([colour(100), np.full((4, 5), alpha)]))
    gray = save(tmp_path / "b.png", np.dstack([np.full((4, 5), 100), np.full((4, 5), alpha)]))
    assert read_image(rgba, channels=3)[0, 0].tolist() == [expected] * 3
    assert read_image(gray, channels=1)[0, 0].tolist() == [expected]


def test_a_palette_with_transparency_becomes_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png", channels=3).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_the_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_image(path, channels=3), np.rot90(pixels, -1))


def test_images_of_another_shape_are_refused_with_the_remedy(tmp_path):
    first = save(tmp_path / "a/1.png", colour(1))
    other = save(tmp_path / "b/1.png", colour(1, (6, 5)))
    with pytest.raises(
        DataError, match=f"{other} is 6x5x3, {first} is 4x5x3.*--config.data.image_size=N"
    ):
        load(tmp_path)
    assert load(tmp_path, 8)["train"].images.shape == (2, 8, 8, 3)


def test_resizing_is_bilinear(tmp_path):
    path = save(tmp_path / "a.png", [[0, 100], [0, 100]])
    assert read_image(path, channels=1, image_size=4)[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-40], lambda content: b"not an image", lambda content: b""]
)
def test_an_unreadable_image_is_refused_by_name(tmp_path, damage):
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3))
    save(tmp_path / "a/1.png", noise)
    bad = save(tmp_path / "a/2.png", noise)
    bad.write_bytes(damage(bad.read_bytes()))
    with pytest.raises(DataError, match=f"{bad} cannot be read as an image"):
        load(tmp_path)


@pytest.mark.parametrize(
    "values, suffix, expected",
    [
        (np.uint16([[0, 257, 65535]]), "png", [0, 1, 255]),
        (np.uint16([[0, 255, 4095]]), "tif", [0, 1, 16]),
        (
            np.uint16([[0, 514, 65535]]),
            "pgm",
            [0, 2, 255],
        ),  # which Pillow gives as integers of 32 bits
        (np.int32([[0, 7, 255]]), "tif", [0, 7, 255]),
        (np.float32([[0, 0.5, 1]]), "tif", [0, 128, 255]),
        (np.float32([[0, 99.6, 255]]), "tif", [0, 100, 255]),
    ],
)
def test_more_than_8_bits_become_8(tmp_path, values, suffix, expected):
    (tmp_path / "a").mkdir()
    Image.fromarray(values).save(tmp_path / f"a/1.{suffix}")
    assert load(tmp_path)["train"].images[0, 0, :, 0].tolist() == expected
    assert read_image(tmp_path / f"a/1.{suffix}", channels=3)[0, -1].tolist() == [expected[-1]] * 3


def test_an_image_of_16_bits_is_turned_by_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.uint16([[0, 65535]])).save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png", channels=1).tolist() == [[[0]], [[255]]]


@pytest.mark.parametrize(
    "values",
    [
        np.int32([[0, 65536]]),
        np.int32([[-1, 9]]),
        np.float32([[0, 300]]),
        np.float32([[0, np.nan]]),
    ],
)
def test_values_of_an_unknown_range_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(
        DataError,
        match=r"a.tif cannot be read as an image \(its values reach from .* save it with 8",
    ):
        read_image(tmp_path / "a.tif", channels=1)


def test_folders_that_are_not_classes_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no class folders"):
        find_images(tmp_path)
    save(tmp_path / "a/1.png", colour(1))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=f"class folder {tmp_path / 'b'} is empty"):
        find_images(tmp_path)
    save(tmp_path / "b/deeper/1.png", colour(1))
    with pytest.raises(DataError, match="deeper is a folder inside a class folder"):
        find_images(tmp_path)


def test_train_and_test_need_the_same_classes(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        save(tmp_path / name / "1.png", colour(1))
    with pytest.raises(DataError, match="class folders b, c are only in one of train and test"):
        find_images(tmp_path)


def test_crop_keeps_the_middle_and_pad_the_whole(tmp_path):
    """A white square with a red middle, between green sides, on white paper."""
    pixels = np.full((12, 24, 3), 255)
    pixels[2:10, :6] = pixels[2:10, 18:] = (0, 255, 0)
    pixels[4:8, 8:16] = (255, 0, 0)
    path = save(tmp_path / "wide.png", pixels)
    cropped = read_image(path, channels=3, image_size=12, fit="crop")
    np.testing.assert_array_equal(cropped, pixels[:, 6:18])
    padded = read_image(path, channels=3, image_size=24, fit="pad")
    np.testing.assert_array_equal(padded[6:18], pixels)
    assert (padded[:6] == 255).all() and (padded[18:] == 255).all()
    stretched = read_image(path, channels=3, image_size=12)
    np.testing.assert_array_equal(
        stretched, read_image(path, channels=3, image_size=12, fit="stretch")
    )
    assert (stretched[6, [0, -1]] == (0, 255, 0)).all() and (stretched[0] == 255).all()


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_fit_gives_squares_of_any_image(tmp_path, fit, channels):
    for number, size in enumerate([(1, 1), (1, 300), (300, 1), (7, 9), (16, 16)]):
        path = save(tmp_path / f"{number}.png", np.full(size, 90))
        image = read_image(path, channels=channels, image_size=16, fit=fit)
        np.testing.assert_array_equal(image, np.full((16, 16, channels), 90))


def test_a_square_of_the_size_stays_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    path = save(tmp_path / "a.png", pixels)
    for fit in ("stretch", "crop", "pad"):
        image = read_image(path, channels=3, image_size=16, fit=fit)
        np.testing.assert_array_equal(image, pixels)
