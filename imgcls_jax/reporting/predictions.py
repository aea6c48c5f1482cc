"""The summary of predictions on image files: counts, accuracies by class, and a picture."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgcls_jax.data.checks import image_digests
from imgcls_jax.evaluation.images import Prediction
from imgcls_jax.reporting import formats
from imgcls_jax.run.folder import PREDICTED, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 50  # of the table of classes
SHOWN = 40  # most images in the picture
CONFUSIONS = 3  # most that are named of a class
SIDE = 84  # pixels of an image in the picture
LONGEST_NAME = 16  # characters of a class name in the picture


class Summary:
    """Takes predictions one by one, and keeps counts and the few images that are shown.

    A file whose folder has the name of a class is labelled with that class, and so are the images
    of a CSV or .npz file that has labels.

    learned: digests of the images that the model was trained and selected on, as
    `run.digests.read` returns them.
    """

    def __init__(self, class_names: Sequence[str], learned: Mapping[str, np.ndarray] | None = None):
        self._learned = learned or {}
        self._digests: list[np.ndarray] = []  # of the images that were classified
        self.class_names = tuple(map(str, class_names))
        self.files = 0
        self.unreadable = 0
        self.inverted = 0
        self.unknown = 0
        self.other_labels = 0  # that are none of the run's classes
        # By the true class: how often each class is predicted.
        self.confusion: dict[int, Counter[int]] = {}
        # Predictions with their labels, which are None where they are not known.
        self._shown: list[tuple[Prediction, int | None]] = []

    def add(self, prediction: Prediction) -> None:
        self.files += 1
        if prediction.error:
            self.unreadable += 1
            return
        self.inverted += prediction.inverted
        self.unknown += prediction.is_unknown
        if self._learned:
            self._digests.append(image_digests(prediction.image[None]))
        label = self._label(prediction)
        if label is not None:
            predicted = int(prediction.probabilities.argmax())
            row = self.confusion.setdefault(label, Counter())
            row[predicted] += 1
            similar = row[label]
            if predicted != label:
                similar = row.total() - row[label]
            # Leaves room for successes and failures of every class.
            most_similar = SHOWN // (2 * len(self.class_names))
            if similar > max(most_similar, 1):
                return
        if len(self._shown) < SHOWN:
            self._shown.append((prediction, label))

    def _label(self, prediction: Prediction) -> int | None:
        if prediction.label is not None:
            is_class = 0 <= prediction.label < len(self.class_names)
            if is_class:
                return prediction.label
            self.other_labels += 1
            return None
        name = Path(prediction.path).parent.name
        if name not in self.class_names:
            return None
        return self.class_names.index(name)

    def write(self, run: RunFolder) -> str:
        """Writes predicted.png into the run's folder, if an image was read; returns the text."""
        from imgcls_jax.reporting.plots import style

        if self.unreadable == self.files:
            return self.text()
        path = run.path / PREDICTED
        style.save(self.figure(), path)
        return f"{self.text()}\n{path}"

    def text(self) -> str:
        """A few lines on everything, and a table of the classes if labels are known."""
        counts = f"{formats.quantity(self.files - self.unreadable, 'image')} classified"
        if self.inverted:
            counts += (
                f", {self.inverted:,} of them inverted: drawn dark on light where the run's are "
                "not, or the reverse"
            )
        lines = [f"{counts}."]
        if self.unreadable:
            lines.append(f"{formats.quantity(self.unreadable, 'image')} could not be read.")
        if self.unknown:
            classified = self.files - self.unreadable
            lines.append(
                f"Unknown, since stranger than nearly all validation images: {self.unknown:,} of "
                f"{classified:,}."
            )
        if self.other_labels:
            last = len(self.class_names) - 1
            lines.append(
                f"{formats.quantity(self.other_labels, 'label')} of none of the run's classes, 0 to "
                f"{last}: in no accuracy."
            )
        if self.confusion:
            lines += ["", *self._table()]
        copies = self._copies_text()
        if copies:
            lines.append(copies)
        return "\n".join(lines)

    def _copies_text(self) -> str:
        """Says how many of the images were used in training; "" if none."""
        if not self._digests:
            return ""
        digests = np.concatenate(self._digests)
        is_trained = np.isin(digests, self._learned["train"])
        is_validation = np.isin(digests, self._learned["validation"]) & ~is_trained
        trained = int(is_trained.sum())
        validation = int(is_validation.sum())
        if not trained + validation:
            return ""
        parts = []
        if trained:
            parts.append(f"{trained:,} from its training set")
        if validation:
            parts.append(f"{validation:,} from its validation set")
        total = formats.quantity(len(digests), "image")
        return (
            f"Of {total}, the run knows {trained + validation:,}: {' and '.join(parts)}. Its test "
            "accuracy says how it does on new ones."
        )

    def _table(self) -> list[str]:
        """The classes with the most mistakes, in their order, and all classes together."""
        mistakes = {}
        for k, row in self.confusion.items():
            mistakes[k] = row.total() - row[k]
        shown = sorted(mistakes, key=lambda k: (-mistakes[k], k))[:MOST_ROWS]
        rows = [("class", "images", "right", "%", "taken for")]
        for k in sorted(shown):
            row = self.confusion[k]
            shares = _shares(row[k], row.total())
            rows.append((self.class_names[k], *shares, self._taken_for(k)))
        labelled = sum(row.total() for row in self.confusion.values())
        right = labelled - sum(mistakes.values())
        rows.append(("all", *_shares(right, labelled), ""))
        lines = _aligned(rows)
        left_out = len(self.confusion) - len(shown)
        if left_out:
            lines.append(f"{left_out:,} classes with fewer mistakes are left out.")
        return lines

    def _taken_for(self, k: int) -> str:
        """The classes that class k is most often taken for, with counts."""
        counts = self.confusion[k]
        others = [j for j in counts if j != k]
        others.sort(key=lambda j: (-counts[j], j))
        return ", ".join(f"{self.class_names[j]} ({counts[j]:,})" for j in others[:CONFUSIONS])

    def figure(self) -> "Figure":
        """Images as the model got them, with class and confidence: the first, or some of each class.

        Wrong ones are red, and name the true class first.
        """
        from imgcls_jax.reporting.plots import canvas, fonts, style

        legible = fonts.legible(self.class_names)
        names = [fonts.shorten(name, LONGEST_NAME) for name in legible]
        captions = []
        for prediction, label in self._shown:
            predicted = int(prediction.probabilities.argmax())
            confidence = formats.confidence(prediction.probabilities[predicted])
            if prediction.is_unknown:
                confidence = f"{confidence}, unknown"
            name = names[predicted]
            name_colour = style.INK
            confidence_colour = style.GREY
            if label is not None and label != predicted:
                name = f"{names[label]} \N{RIGHTWARDS ARROW} {name}"
                name_colour = confidence_colour = style.RED
            first = canvas.Line(name, name_colour)
            second = canvas.Line(confidence, confidence_colour)
            captions.append((first, second))
        images = [prediction.image for prediction, _ in self._shown]
        return canvas.captioned(images, captions, side=SIDE)


def _shares(right: int, count: int) -> tuple[str, str, str]:
    return f"{count:,}", f"{right:,}", formats.percentage(right / count)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text with aligned columns: names at the left, figures at the right, any text last."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:-1], widths[1:-1], strict=True):
            cells.append(cell.rjust(width))
        cells.append(row[-1])
        lines.append("  ".join(cells).rstrip())
    return lines
