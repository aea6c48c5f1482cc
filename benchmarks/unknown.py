"""How well a run knows what it does not know: python -m benchmarks.unknown RUN...

For each run, of MNIST or CIFAR-10, fits `imgcls unknown` on its validation images and shows it
images of other kinds: the AUROC with which each score of strangeness tells them from the test
images, and the share of them that is called unknown. A second table has the coverage of the sets of
classes on the test images. With --output both go to a file.

--cifar100 is a folder of PNG files, CLASS/FILE.png, such as `test` of
https://github.com/cyizhuo/CIFAR-100-dataset.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.common import command_line, progress
from configs import base
from imgcls_jax import backend
from imgcls_jax.commands import runs
from imgcls_jax.data import Splits, sources
from imgcls_jax.data.image_files import as_mnist
from imgcls_jax.evaluation import conformal, strangeness, unknown
from imgcls_jax.evaluation.predict import Predictor
from imgcls_jax.evaluation.scores import softmax
from imgcls_jax.evaluation.strangeness import SCORES, Neighbours, Outputs
from imgcls_jax.reporting.formats import percentage
from imgcls_jax.reporting.plain_tables import Markdown, markdown_table
from imgcls_jax.run.folder import RunFolder

FALSE_ALARMS = 0.05
COVERAGES = (0.9, 0.95, 0.99, 0.995)
MOST = 5000  # images of a kind
NOT_DIGITS_UPSIDE_DOWN = (2, 3, 4, 5, 7)  # 0, 1 and 8 stay digits, 6 and 9 become each other
LETTERS = "ABCDEFGHJKMNPQRTUVWXY"  # without those that are like digits
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "cmr10")
KINDS_HEAD = ["Run", "Shown", "Images", *SCORES, "Called unknown, %"]
COVERAGE_HEAD = ["Run", "Asked, %", "Covered, %", "95 % interval if exact", "Classes in a set"]

Rows = list[list[str]]


def main(arguments: list[str]) -> None:
    parser = command_line("benchmarks.unknown", __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--cifar100", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    backend.configure()
    kinds: Rows = []
    coverages: Rows = []
    for run in runs.tested(options.runs):
        with runs.locked_with_data(run) as splits:
            predictor = Predictor(run)
            validation = predictor.outputs(splits.validation.images)
            test = predictor.outputs(splits.test.images)
            coverages += coverage_rows(run, validation, test, splits)
            progress(f"{run.name}: strange images")
            kinds += kind_rows(run, predictor, validation, test, splits, options.cifar100)
    text = report(kinds, coverages, arguments)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)


def report(kinds: Rows, coverages: Rows, arguments: Sequence[str]) -> str:
    command = " ".join(["python -m benchmarks.unknown", *arguments])
    kinds_table = markdown_table(KINDS_HEAD, kinds, figures=range(2, len(KINDS_HEAD)))
    coverage_table = markdown_table(COVERAGE_HEAD, coverages, figures=range(1, len(COVERAGE_HEAD)))
    return (
        "# What runs do not know\n\n"
        f"    {command}\n\n"
        "AUROC in percent with which each score tells images from the run's test images; in bold "
        "the score that\nvalidation chose. At most "
        f"{percentage(FALSE_ALARMS)} % of its own test images were to be called unknown.\n\n"
        f"{kinds_table}\n"
        "How often the sets contain the true class of a test image. Where all have one class, the "
        "run is right more\noften than was asked, and so is the coverage. The interval is that of "
        "a rule fitted on as many validation\nimages and tested on as many test images.\n\n"
        f"{coverage_table}"
    )


def kind_rows(
    run: RunFolder,
    predictor: Predictor,
    validation: Outputs,
    test: Outputs,
    splits: Splits,
    cifar100: Path | None,
) -> Rows:
    """Returns the cells of KINDS_HEAD's table: the run's own test images, then the other kinds."""
    results = unknown.fit(run, splits, coverage=COVERAGES[0], false_alarms=FALSE_ALARMS)
    chosen = results["score"]
    neighbours = Neighbours(validation.features)
    usual = {name: strangeness.score(name, test, neighbours) for name in SCORES}
    flagged = (usual[chosen] > results["threshold"]).mean()
    no_aurocs = [""] * len(SCORES)
    own = [run.name, "its test images", f"{len(test.logits):,}", *no_aurocs, percentage(flagged)]
    rows = [own]
    for kind, images in strange_images(splits, cifar100).items():
        outputs = predictor.outputs(images)
        cells = [run.name, kind, f"{len(images):,}"]
        for name in SCORES:
            scores = strangeness.score(name, outputs, neighbours)
            cell = percentage(strangeness.auroc(usual[name], scores))
            if name == chosen:
                cell = Markdown(f"**{cell}**")
                flagged = (scores > results["threshold"]).mean()
            cells.append(cell)
        rows.append([*cells, percentage(flagged)])
    return rows


def coverage_rows(run: RunFolder, validation: Outputs, test: Outputs, splits: Splits) -> Rows:
    """Returns the cells of COVERAGE_HEAD's table."""
    labels = splits.test.labels
    rows = []
    for level in COVERAGES:
        most = conformal.fit(softmax(validation.logits), splits.validation.labels, level)
        sets = conformal.sets(softmax(test.logits), most)
        covered = sets[np.arange(len(labels)), labels].mean()
        low, high = coverage_interval(level, len(splits.validation), len(labels))
        interval = f"{percentage(low)} to {percentage(high)}"
        if most == 0:
            interval = "all sets have one class"
        size = sets.sum(-1).mean()
        rows.append([run.name, f"{100 * level:g}", percentage(covered), interval, f"{size:.2f}"])
    return rows


def coverage_interval(level: float, fitted: int, tested: int) -> tuple[float, float]:
    """Returns the 95 % interval of the coverage of `tested` images by a rule fitted on `fitted`.

    The number of covered images has a beta-binomial distribution (Vovk, 2012) if no scores tie.
    """
    from scipy.stats import betabinom

    rank = np.ceil((fitted + 1) * level - conformal.ROUNDING)
    low, high = betabinom(tested, rank, fitted + 1 - rank).interval(0.95)
    return low / tested, high / tested


# Images of other kinds, uint8 [N, H, W, C] of a run's shape


def strange_images(splits: Splits, cifar100: Path | None) -> dict[str, np.ndarray]:
    """Returns images that show none of the run's classes, by what they show."""
    test = splits.test
    shape = test.images.shape[1:]
    kinds: dict[str, np.ndarray] = {}
    if shape == (28, 28, 1):
        kinds["scikit-learn's digits 2, 3, 4, 5, 7 upside down"] = upside_down_digits()
        kinds["printed letters"] = letters()
        kinds["CIFAR-10 in grey"] = other_test_images("cifar10", shape)
    else:
        if cifar100:
            kinds["CIFAR-100"] = cifar100_images(cifar100)
        kinds["MNIST"] = other_test_images("mnist", shape)
    rng = np.random.default_rng(1)
    kinds["noise"] = strangeness.noise(test.images[:MOST], test.labels[:MOST], rng)
    return kinds


def other_test_images(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns test images of another data set, resized to the shape."""
    config = base.get_config().data
    config.name = name
    images = sources.tfds(config, keep=False)["test"].images[:MOST]
    mode = "RGB"
    if shape[-1] == 1:
        mode = "L"
    resized = []
    for image in images:
        picture = Image.fromarray(image.squeeze()).convert(mode)
        picture = picture.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
        resized.append(np.asarray(picture).reshape(shape))
    return np.stack(resized)


def cifar100_images(folder: Path) -> np.ndarray:
    """Returns the images of CLASS/FILE.png: CIFAR-100 has no class of CIFAR-10."""
    paths = sorted(folder.glob("*/*.png"))
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def upside_down_digits() -> np.ndarray:
    """Returns scikit-learn's scans, turned by 180 degrees and fitted as MNIST's digits are."""
    from sklearn.datasets import load_digits

    data = load_digits()
    scans = np.round(data.images * (255 / 16)).astype(np.uint8)
    turned = scans[np.isin(data.target, NOT_DIGITS_UPSIDE_DOWN), ::-1, ::-1]
    return np.stack([as_mnist(scan) for scan in turned])[..., None]


def letters() -> np.ndarray:
    """Returns letters of matplotlib's fonts, fitted as MNIST's digits are."""
    from matplotlib import get_data_path

    images = []
    for font_name in FONTS:
        path = Path(get_data_path(), "fonts", "ttf", f"{font_name}.ttf")
        font = ImageFont.truetype(str(path), 60)
        for letter in LETTERS:
            canvas = Image.new("L", (96, 96))
            ImageDraw.Draw(canvas).text((48, 48), letter, fill=255, font=font, anchor="mm")
            images.append(as_mnist(np.asarray(canvas)))
    return np.stack(images)[..., None]


if __name__ == "__main__":
    main(sys.argv[1:])
