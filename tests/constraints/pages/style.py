"""How the pictures look."""

from matplotlib.axes import Axes

from paraform.report.pictures import LINES

# Those of the report, which are told apart in every common colour blindness, and two that mean "beside the point".
BLUE, ORANGE, GREEN = (colour for colour, _ in LINES[:3])
GREY = "#8A8A8A"
PALE = "#D6E6F2"
SIGNS = "PuOr_r"  # negative orange, zero white, positive purple: told apart in every common colour blindness too

__all__ = ["BLUE", "GREEN", "GREY", "LINES", "ORANGE", "PALE", "SIGNS", "plain"]


def plain(axes: Axes, title: str) -> None:
    """A title, a faint grid, and no frame above or at the right."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
