"""Writes a small set of real photos, cut out of three that installed packages include.

  python -m imgcls_jax.data.photos FOLDER
  python launch.py --config configs/own_photos.py:FOLDER

writes 240 pieces of the photos into FOLDER/train/CLASS and 60 into FOLDER/test/CLASS: of a building
and a flower, which come with scikit-learn, and of a person, from matplotlib. Training pieces show
the left half of the photo's subject, test pieces the right half, so that no pixel is in both. The
set tries out a command; it is no benchmark.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgcls_jax import console
from imgcls_jax.foreign import open_image

if TYPE_CHECKING:
    from PIL import Image

PIECES = {"train": 80, "test": 20}  # of each class
SIDES = (160, 320)  # the least and the most pixels of a piece's side
# The middle of the subject, as a share of the photo's width.
MIDDLES = {"building": 0.33, "flower": 0.485, "person": 0.51}
REACH = 0.33  # of the pieces to either side of the middle, as a share of the photo's width


def sources() -> dict[str, Path]:
    """Returns the photo of each class."""
    import matplotlib
    import sklearn.datasets

    images = Path(sklearn.datasets.__file__).parent / "images"
    person = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return {"building": images / "china.jpg", "flower": images / "flower.jpg", "person": person}


def cut(
    photo: "Image.Image", start: int, stop: int, generator: np.random.Generator
) -> "Image.Image":
    """Cuts a random square out of the photo between two columns.

    Its size, whether it is mirrored, and its brightness are random.
    """
    from PIL import Image, ImageEnhance, ImageOps

    size = int(generator.uniform(0.6, 1) * (stop - start))
    left = int(generator.integers(start, stop - size, endpoint=True))
    top = int(generator.integers(0, photo.height - size, endpoint=True))
    side = int(generator.integers(*SIDES, endpoint=True))
    # Cropped before it is resized, which would otherwise use pixels from outside of it.
    piece = photo.crop((left, top, left + size, top + size))
    piece = piece.resize((side, side), Image.Resampling.BICUBIC)
    if generator.random() < 0.5:
        piece = ImageOps.mirror(piece)
    return ImageEnhance.Brightness(piece).enhance(generator.uniform(0.8, 1.1))


def write(folder: Path, pieces: Mapping[str, int] = PIECES) -> Path:
    """Writes so many pieces of each class for each split, as JPEG files. Returns the folder.

    The files are equal for equal versions of NumPy and Pillow.
    """
    generator = np.random.default_rng(0)
    for name, path in sources().items():
        with open_image(path) as image:
            photo = image.convert("RGB")
        middle = int(MIDDLES[name] * photo.width)
        reach = int(REACH * photo.width)
        columns = {"train": (middle - reach, middle), "test": (middle, middle + reach)}
        for split, count in pieces.items():
            start, stop = columns[split]
            class_folder = folder / split / name
            class_folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                piece = cut(photo, start, stop, generator)
                piece.save(class_folder / f"{number:03}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    console.say(write(Path(sys.argv[1])))
