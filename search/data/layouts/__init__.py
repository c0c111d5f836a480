"""The layouts of data sets, one file each: what their names are, whether they are there, and how they are read.

A layout is a class of `search.data.layouts.base`. One more of them is a file here, and its line in `LAYOUTS`.
"""

from search.data.layouts.base import DataSource, ImageFiles
from search.data.layouts.digits import Digits
from search.data.layouts.image_folder import ImageFolder
from search.data.layouts.parquet import Parquet
from search.data.layouts.torchvision_sets import TorchvisionSet

FILE_LAYOUTS: tuple[type[ImageFiles], ...] = (Parquet, ImageFolder)  # a folder is of the first that it may be
LAYOUTS: tuple[type[DataSource], ...] = (Digits, TorchvisionSet, ImageFolder, Parquet)
NAMES = tuple(name for layout in LAYOUTS for name in layout.known_as)  # as messages and the help list them
