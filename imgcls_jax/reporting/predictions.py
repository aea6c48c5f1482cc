"""What came of predictions on image files: counts, accuracies where folders tell the classes, and a picture."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.evaluation.images import Prediction
from imgcls_jax.run.folder import PREDICTED, RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 50  # of the table of classes
SHOWN = 40  # most images in the picture
CONFUSIONS = 3  # most that are named of a class


class Summary:
    """Takes predictions one by one, and keeps counts and the few images that are shown.

    A file whose folder has the name of a class counts as of that class.
    """

    def __init__(self, class_names: Sequence[str]):
        self.class_names = tuple(map(str, class_names))
        self.files = self.unreadable = self.inverted = 0
        self.confusion: dict[
            int, Counter[int]
        ] = {}  # by the true class: how often each class is predicted
        self._shown: list[tuple[Prediction, int | None]] = []  # with the label, where it is known

    def add(self, prediction: Prediction) -> None:
        self.files += 1
        if prediction.error:
            self.unreadable += 1
            return
        self.inverted += prediction.inverted
        label = self._label(prediction.path)
        if label is not None:
            predicted = int(prediction.probabilities.argmax())
            row = self.confusion.setdefault(label, Counter())
            row[predicted] += 1
            like_it = row[label] if predicted == label else row.total() - row[label]
            if like_it > max(SHOWN // (2 * len(self.class_names)), 1):
                return  # so that there is room for successes and failures of every class
        if len(self._shown) < SHOWN:
            self._shown.append((prediction, label))

    def _label(self, path: str) -> int | None:
        name = Path(path).parent.name
        return self.class_names.index(name) if name in self.class_names else None

    def write(self, run: RunFolder) -> str:
        """Writes predicted.png into the run's folder, where an image was read; returns what there is to say."""
        from imgcls_jax.reporting import plots

        if self.unreadable == self.files:
            return self.text()
        plots.save(self.figure(), run.path / PREDICTED)
        return f"{self.text()}\n{run.path / PREDICTED}"

    def text(self) -> str:
        """A few lines on everything, and a table of the classes where they are known."""
        read = self.files - self.unreadable
        inverted = f", {self.inverted:,} of them inverted: drawn dark on light where the run's are not, or the reverse"
        lines = [f"{_images(read)} classified{inverted if self.inverted else ''}."]
        if self.unreadable:
            lines.append(f"{_images(self.unreadable)} could not be read.")
        if self.confusion:
            lines += ["", *self._table()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        known = sum(row.total() for row in self.confusion.values())
        right = sum(row[k] for k, row in self.confusion.items())
        rows = [("class", "images", "right", "%", "taken for")]
        mistakes = {k: row.total() - row[k] for k, row in self.confusion.items()}
        shown = sorted(self.confusion, key=lambda k: (-mistakes[k], k))[:MOST_ROWS]
        for k in sorted(shown):
            row = self.confusion[k]
            rows.append((self.class_names[k], *_shares(row[k], row.total()), self._taken_for(k)))
        rows.append(("all", *_shares(right, known), ""))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "  ".join(
                [name.ljust(widths[0]), *map(str.rjust, cells, widths[1:]), taken_for]
            ).rstrip()
            for name, *cells, taken_for in rows
        ]
        if left := len(self.confusion) - len(shown):
            lines.append(f"{left:,} classes with fewer mistakes are left out.")
        return lines

    def _taken_for(self, k: int) -> str:
        wrong = {j: count for j, count in self.confusion[k].items() if j != k}
        order = sorted(wrong, key=lambda j: (-wrong[j], j))[:CONFUSIONS]
        return ", ".join(f"{self.class_names[j]} ({wrong[j]:,})" for j in order)

    def figure(self) -> "Figure":
        """Images as the model got them with class and confidence: the first, or some of each known class.

        What is wrong is red, and says the true class first.
        """
        from imgcls_jax.reporting import fonts, plots

        names, captions = fonts.legible(self.class_names), []
        for prediction, label in self._shown:
            predicted = int(prediction.probabilities.argmax())
            wrong = label is not None and label != predicted
            name, confidence = (
                plots.short(names[predicted], 16),
                prediction.probabilities[predicted],
            )
            if wrong:
                name = f"{plots.short(names[label], 16)} \N{RIGHTWARDS ARROW} {name}"
            ink, grey = (plots.RED, plots.RED) if wrong else (plots.INK, plots.GREY)
            captions.append(((name, ink), (plots.percent(confidence), grey)))
        return plots.captioned(
            [prediction.image for prediction, _ in self._shown], captions, side=84
        )


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _shares(right: int, count: int) -> tuple[str, str, str]:
    return f"{count:,}", f"{right:,}", f"{100 * right / count:.2f}"
