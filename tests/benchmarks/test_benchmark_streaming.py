from benchmarks import streaming
from imgcls_jax.data import folder


def test_every_file_is_an_image_of_its_own_to_the_reader(tmp_path):
    streaming.make(tmp_path / "images", 450)
    files = folder.find_images(tmp_path / "images")
    counts = {split: sum(map(len, classes.values())) for split, classes in files.items()}
    assert (
        counts == {"train": 360, "test": 90}
        and len(files["train"]) == len(files["test"]) == streaming.CLASSES
    )
    train = folder.read_folder(files)["train"]
    assert train.images.shape == (360, 224, 224, 3)
    means = [
        train.images[[36 * label, 36 * label + 35]].mean() for label in range(streaming.CLASSES)
    ]
    assert all(
        low < high for low, high in zip(means, means[1:], strict=False)
    )  # brighter class by class
