"""Times networks. The same files time here and, joined into one, on a device without PyTorch
(`search.latency.kit`), so they import numpy and the standard library only and keep to Python 3.8."""
