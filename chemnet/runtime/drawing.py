"""What is used of matplotlib, which is imported when its cache has a folder that can be written to."""

# ruff: noqa: E402
from chemnet.runtime.caches import redirect_matplotlib

redirect_matplotlib()

from matplotlib import colormaps
from matplotlib.animation import FFMpegWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

# fmt: off
__all__ = [
    "Axes", "AxesImage", "EngFormatter", "FFMpegWriter", "Figure", "FigureCanvasAgg", "LogLocator", "MaxNLocator",
    "Normalize", "NullFormatter", "TwoSlopeNorm", "colormaps",
]
# fmt: on
