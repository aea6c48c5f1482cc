"""configs/own_images.py: what it chooses for folders of every size."""

import jax
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from configs import cifar_fast, own_images
from configs.studies import own_images as study
from imgcls_jax import models
from imgcls_jax.config.options import flat_options
from imgcls_jax.data.transforms import parse
from imgcls_jax.training import checks


def write(folder, count, size):
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, number, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("images", "side", "expected"),
    [
        (50, 28, ("resnet20", 32, 16, 60)),
        (500, 100, ("resnet20", 32, 32, 30)),
        (500, 200, ("resnet20", 64, 32, 30)),
        (20_000, 32, ("resnet20", 32, 64, 20)),
        (25_000, 200, ("fast_cnn", 32, 1024, 10)),
        (50_000, 32, ("fast_cnn", 32, 1024, 5)),
        (1_000_000, 32, ("fast_cnn", 32, 1024, 4)),
    ],
)
def test_model_and_numbers_fit_the_images(images, side, expected, monkeypatch, capsys):
    monkeypatch.setattr(own_images, "count", lambda folder: images)
    monkeypatch.setattr(own_images, "typical_side", lambda folder: side)
    config = own_images.get_config("mine")
    checks.check(config)
    chosen = (
        config.model.name,
        config.data.image_size,
        config.train.batch_size,
        config.train.epochs,
    )
    assert chosen == expected
    assert (config.data.path, config.name) == ("mine", "own_images")
    (line,) = capsys.readouterr().err.splitlines()
    model, size, batch, epochs = expected
    assert line.startswith(f"own_images: {model} on {size}x{size} pixels, batches of {batch:,}")
    assert f"{epochs} epochs, for {images:,} images of about {side} pixels in mine." in line


def test_many_images_have_the_recipe_of_cifar_fast_without_its_flips():
    config = own_images.base.get_config()
    recipe = cifar_fast.get_config()
    own_images.many_images(config, own_images.IMAGES_SEEN // recipe.train.epochs)
    for section in ("model", "optimizer", "schedule"):
        assert flat_options(config[section]) == flat_options(recipe[section])
    assert "flip" not in config.data.transform + config.train.tta


def test_the_size_is_that_of_most_images(tmp_path):
    write(tmp_path, 6, (40, 300))
    write(tmp_path / "large", 1, (500, 500))  # no class folder of this folder
    (tmp_path / "a" / "damaged.png").write_bytes(b"no image")
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 2**21, zip=True)
    Image.new("L", (999, 999)).save(tmp_path / "a" / "text.png", pnginfo=text)
    assert own_images.typical_side(str(tmp_path)) == 40
    assert own_images.typical_side(str(tmp_path / "nowhere")) == 0


def test_a_size_is_looked_at_in_the_formats_that_training_reads(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (40, 40)).save(tmp_path / "a" / "image.png", format="EPS")
    assert own_images.typical_side(str(tmp_path)) == 0


def test_without_a_folder_the_numbers_are_those_of_some_small_images(capsys):
    config = own_images.get_config()
    assert (config.model.name, config.data.image_size, config.data.fit) == ("resnet20", 32, "pad")
    assert (config.train.epochs, config.train.batch_size) == (30, 32)
    assert config.data.path is None and config.name is None
    assert set(study.get_config().rows) == {"cnn", "resnet20", "resnet20_plain"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("choose", [own_images.few_images, own_images.many_images])
def test_grayscale_and_colour_will_do(choose, channels):
    config = own_images.base.get_config()
    choose(config, 25_000)
    model = models.create(config.model, num_classes=3)
    images = np.zeros((2, 32, 32, channels), np.uint8)
    seen = jax.eval_shape(parse(config.data.transform), images, jax.random.split(jax.random.key(0)))
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), seen)
    assert logits.shape == (2, 3)
