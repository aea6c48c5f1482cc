"""The confusion matrix as a figure: rows true, columns predicted; blue right, red wrong."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial import distance

from imgcls_jax.evaluation.scores import DENSE_CLASSES, Confusion
from imgcls_jax.reporting.plots import fonts, style

MOST_CONFUSED = 30  # classes shown where the figure cannot show all
MOST_NARROW = 10  # classes that a narrow figure has room for
NARROW_NAME = 62  # points of a name in a narrow figure
MOST_COUNTED = 30  # classes up to which there is room for the counts
DARK = 0.55  # strength of a cell's colour from which its count is white


def draw(
    matrix: Confusion | Sequence[Sequence[int]],
    class_names: Sequence[str],
    *,
    narrow: bool = False,
) -> Figure:
    """A confusion matrix, or its counts [K][K], coloured by each count's share of its row.

    If there are more than DENSE_CLASSES classes, the figure has the MOST_CONFUSED that are confused
    most, and says so.

    narrow: for a phone, with MOST_NARROW classes at most.
    """
    confusion = matrix
    if not isinstance(matrix, Confusion):
        confusion = Confusion.from_matrix(matrix)
    if narrow:
        shown, counts = most_confused_part(confusion, most=MOST_NARROW, cut_to=MOST_NARROW)
        names = [fonts.fit(class_names[k], size=9, width=NARROW_NAME) for k in shown]
    else:
        shown, counts = most_confused_part(confusion, most=DENSE_CLASSES, cut_to=MOST_CONFUSED)
        names = [fonts.shorten(class_names[k]) for k in shown]
    colours, strength = cell_colours(counts, confusion.support[shown])
    layout = _Layout.of(names, is_cut=len(shown) < confusion.num_classes, narrow=narrow)

    figure = Figure(figsize=(layout.width, layout.height), facecolor="white")
    axes = figure.add_axes(layout.box)
    axes.imshow(colours, interpolation="nearest")
    if len(shown) <= MOST_COUNTED:
        _counts(axes, counts, strength, cell=layout.cell)
    _ticks(axes, names, layout)
    _titles(figure, layout)
    if layout.is_cut:
        note = (
            f"The {len(shown)} of {confusion.num_classes:,} classes that are confused most; those "
            "confused with each other are neighbours.\nColours show shares of all images of a class."
        )
        if narrow:
            note = f"The {len(shown)} of {confusion.num_classes:,} most confused classes"
        edge = 0.12
        x = edge / layout.width
        y = 1 - edge / layout.height
        figure.text(
            x,
            y,
            note,
            va="top",
            fontsize=9,
            color=style.GREY,
        )
    return figure


def most_confused_part(
    confusion: Confusion, *, most: int, cut_to: int
) -> tuple[np.ndarray, np.ndarray]:
    """The classes that a figure has room for, and the counts among them, int64 [k, k].

    They are all classes in their order, or if these are more than `most`, the `cut_to` most
    confused ones in the order of `clustered`.
    """
    if confusion.num_classes <= most:
        classes = np.arange(confusion.num_classes)
        return classes, confusion.matrix(classes)
    classes = confusion.most_confused(cut_to)
    counts = confusion.matrix(classes)
    order = clustered(counts)
    return classes[order], counts[np.ix_(order, order)]


def clustered(counts: np.ndarray) -> np.ndarray:
    """The order of the classes of counts [k, k], k > 2, in which those confused are neighbours.

    It is that of the leaves of average linkage (Bar-Joseph et al., 2001, order them); two classes
    are the nearer, the more often one is taken for the other.
    """
    errors = counts + counts.T
    np.fill_diagonal(errors, 0)
    distances = 1 - errors / max(errors.max(), 1)
    np.fill_diagonal(distances, 0)
    condensed = distance.squareform(distances)
    return hierarchy.leaves_list(hierarchy.linkage(condensed, "average", optimal_ordering=True))


def cell_colours(counts: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB [K, K, 3] and strength [K, K, 1] of the cells of counts [K, K]: blue hits, red errors.

    examples: [K], of each class; the strength follows from the share of these.
    """
    share = counts / np.maximum(examples, 1)[:, None]
    share = share[..., None]
    is_hit = np.eye(len(counts), dtype=bool)[..., None]
    strength = np.where(is_hit, share, np.sqrt(share))  # the root makes errors of 1 % visible
    blue = style.rgb(style.BLUE)
    red = style.rgb(style.RED)
    colour = np.where(is_hit, blue, red)
    return 1 - strength * (1 - colour), strength


def count_colour(strength: float) -> str:
    """The colour of a count on a cell of that strength."""
    return "white" if strength > DARK else style.INK


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Sizes of the figure in inches, from the lengths of the names."""

    classes: int
    is_cut: bool
    cell: float
    left: float
    bottom: float
    width: float
    height: float
    rotation: int  # degrees, of the names below the columns
    fontsize: float

    @classmethod
    def of(cls, names: Sequence[str], *, is_cut: bool, narrow: bool) -> "_Layout":
        classes = len(names)
        largest = 1.0 if classes < 6 else 0.58
        side = 8.5 if is_cut else 11.0  # a part is as large as a page shows it
        cell = np.clip(side / classes, 0.2, largest)
        fontsize = np.clip(28 * cell, 7, 9)
        longest = max(fonts.text_width(name, fontsize) for name in names) / 72
        if narrow:
            cell = min((style.NARROW - longest - 0.67) / classes, largest)
        if classes > 12:
            rotation = 90
        elif longest > 0.9 * cell:
            rotation = 40
        else:
            rotation = 0
        left = longest + 0.55
        right = 0.12
        bottom = longest * np.sin(np.radians(rotation)) + 0.55
        top = 0.12
        if is_cut:
            top = 0.42 if narrow else 0.55
        return cls(
            classes=classes,
            is_cut=is_cut,
            cell=cell,
            left=left,
            bottom=bottom,
            width=left + cell * classes + right,
            height=bottom + cell * classes + top,
            rotation=rotation,
            fontsize=fontsize,
        )

    @property
    def side(self) -> float:
        """Of the matrix."""
        return self.cell * self.classes

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the matrix, as shares of the figure."""
        return (
            self.left / self.width,
            self.bottom / self.height,
            self.side / self.width,
            self.side / self.height,
        )


def _counts(
    axes: Axes,
    counts: np.ndarray,
    strength: np.ndarray,
    *,
    cell: float,
) -> None:
    """Every count but zeros, in its cell of `cell` inches."""
    for row, column in zip(*np.nonzero(counts), strict=True):
        text = str(counts[row, column])
        size = min(9, 72 * cell * 1.45 / max(len(text), 3))
        colour = count_colour(strength[row, column, 0])
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=size,
            color=colour,
        )


def _ticks(axes: Axes, names: Sequence[str], layout: _Layout) -> None:
    places = range(len(names))
    text = {"fontsize": layout.fontsize, "color": style.INK}
    slanted = {}
    if layout.rotation == 40:
        slanted = {"ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(
        places,
        names,
        rotation=layout.rotation,
        **text,
        **slanted,
    )
    axes.set_yticks(places, names, **text)
    edges = np.arange(len(names) - 1) + 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    thickness = 0.8 if len(names) <= MOST_COUNTED else 0.3
    axes.grid(which="minor", color=style.RULE, linewidth=thickness)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color(style.RULE)


def _titles(figure: Figure, layout: _Layout) -> None:
    title = {"fontsize": 10, "color": style.INK, "fontweight": "bold"}
    x = (layout.left + layout.side / 2) / layout.width
    figure.text(
        x,
        0.12 / layout.height,
        "Predicted",
        ha="center",
        **title,
    )
    y = (layout.bottom + layout.side / 2) / layout.height
    figure.text(
        0.1 / layout.width,
        y,
        "True",
        va="center",
        rotation=90,
        **title,
    )
