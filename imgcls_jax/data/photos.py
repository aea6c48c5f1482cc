"""A small set of real photos in a folder a class, made from three that installed packages carry.

  python -m imgcls_jax.data.photos FOLDER
  python launch.py --config configs/own_photos.py:FOLDER

writes 240 pieces of the photos into FOLDER/train/CLASS and 60 into FOLDER/test/CLASS: of a
building and a flower, which come with scikit-learn, and of a person, from matplotlib. Training
pieces show the left half of what is in the photo, test pieces the right half, so that none shows
what another split has seen. The set tries out a command; it is no benchmark.
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
SIDES = 160, 320  # pixels that a piece may be wide and high
MIDDLES = {
    "building": 0.33,
    "flower": 0.485,
    "person": 0.51,
}  # of what is in the photo, as a share of its width
REACH = 0.33  # of the pieces to either side of the middle, as a share of the width


def sources() -> dict[str, Path]:
    """The photo of each class."""
    import matplotlib
    import sklearn.datasets

    images = Path(sklearn.datasets.__file__).parent / "images"
    person = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return {"building": images / "china.jpg", "flower": images / "flower.jpg", "person": person}


def cut(photo: "Image.Image", start: int, stop: int, random: np.random.Generator) -> "Image.Image":
    """A square piece of the photo between two columns: of any size, mirrored or not, lighter or
    darker."""
    from PIL import Image, ImageEnhance, ImageOps

    size = int(random.uniform(0.6, 1) * (stop - start))
    left = int(random.integers(start, stop - size, endpoint=True))
    top = int(random.integers(0, photo.height - size, endpoint=True))
    side = int(random.integers(*SIDES, endpoint=True))
    piece = photo.crop(
        (left, top, left + size, top + size)
    )  # first, or resizing would look beyond it
    piece = piece.resize((side, side), Image.Resampling.BICUBIC)
    if random.random() < 0.5:
        piece = ImageOps.mirror(piece)
    return ImageEnhance.Brightness(piece).enhance(random.uniform(0.8, 1.1))


def write(folder: Path, pieces: Mapping[str, int] = PIECES) -> Path:
    """Writes so many pieces of each class for each split, as JPEG files; returns the folder.

    Equal versions of NumPy and Pillow write equal files.
    """
    random = np.random.default_rng(0)
    for name, path in sources().items():
        with open_image(path) as image:
            photo = image.convert("RGB")
        middle, reach = int(MIDDLES[name] * photo.width), int(REACH * photo.width)
        columns = {"train": (middle - reach, middle), "test": (middle, middle + reach)}
        for split, count in pieces.items():
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                cut(photo, *columns[split], random).save(target / f"{number:03}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    console.say(str(write(Path(sys.argv[1]))))
