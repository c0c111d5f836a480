"""Networks as graphs for other runtimes: the form of the cheap op, ONNX and LiteRT graphs node by node, int8."""
