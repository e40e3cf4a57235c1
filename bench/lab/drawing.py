"""What all figures share: colours that are always the same for a model, hollow for what must not be compared, SVG.

Needs matplotlib, which is imported when a figure is made: ImportError says that it is missing, `MISSING` what to do.
Colours are Okabe and Ito's, which the colour-blind can tell apart ("Color Universal Design", 2008).
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "MISSING", "bar_style", "bare", "colour_of", "new_figure", "svg_of"]

MISSING = ("No figures: matplotlib is not installed. pip install matplotlib, or in the checkout: "
           "pip install -e '.[bench]'")

COLOURS = {"single": "#999999", "thread": "#D55E00", "pool-hold": "#0072B2", "pool-park": "#56B4E9",
           "recycling-hold": "#009E73", "recycling-park": "#80CFB9", "loop": "#E69F00", "loop-threads": "#F0E442",
           "prefork": "#CC79A7"}
_OTHERS = ("#000000", "#882255", "#44AA99", "#AA4499", "#332288", "#117733")


def colour_of(subject: str, place: int = 0) -> str:
    """Of a subject, whichever parser or interpreter it has; of one that is not ours, by its `place` in the figure."""
    model = subject.partition("/")[0].partition("@")[0]
    return COLOURS.get(model, _OTHERS[place % len(_OTHERS)])


def bar_style(colour: str, fit: bool) -> dict[str, Any]:
    """For Axes.bar and Axes.barh: full, or hollow and hatched if it must not be compared."""
    return {"color": colour if fit else "white", "edgecolor": colour, "hatch": None if fit else "////",
            "alpha": 1.0 if fit else 0.6}


def new_figure(width: float, height: float) -> Figure:
    """In inches, whose layout sees to it that nothing overlaps. ImportError without matplotlib."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def bare(axes: Axes) -> None:
    """Only what is read: no box around it, small grey numbers."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, colors="#555555")


def svg_of(figure: Figure, name: str) -> str:
    """The <svg> element alone, to stand in a page. name: makes its inner names differ from those of other figures.

    Letters stay letters, so that they can be found, read aloud, and take little room; the same data make the same text.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        text = io.StringIO()
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
    svg = text.getvalue()
    return _smaller(svg[svg.index("<svg"):])


def _smaller(svg: str) -> str:
    """The same picture in half the room: fonts are named once, coordinates are in tenths of a point."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to groups
    svg = re.sub(r"font-family: [^;\"]*(; )?", "", svg)
    svg = svg.replace("<svg", '<svg font-family="DejaVu Sans, Verdana, sans-serif"', 1)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda place: re.sub(r"\d+\.\d{2,}", _tenths, place[0]), svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def _tenths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")
