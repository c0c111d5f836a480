"""LiteRT (TensorFlow Lite) on the CPU, by XNNPACK: the runtime of most phones."""

from typing import TYPE_CHECKING, ClassVar

from search.latency.runtimes.base import Adapter, Dtype, Session, Shape
from search.latency.timing.litert_session import LiteRtSession

if TYPE_CHECKING:
    from torch import nn

    from search.graphs.lowering import Lowering


class LiteRt(Adapter):
    """`.tflite` files of ours (search/graphs/tflite_builder.py), or anyone's with one input and one output."""

    name = LiteRtSession.runtime
    package = "ai_edge_litert"
    extra = "litert"
    standalone = LiteRtSession
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "repeated"}
    exports: ClassVar[dict[Dtype, str]] = {"float32": "litert"}

    def version(self) -> str:
        return LiteRtSession.version()

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        from search.graphs.onnx_graph import to_tflite

        return to_tflite(module, shape, batch, self.lowering)

    def load(self, compiled: bytes) -> Session:
        return LiteRtSession(compiled, self.threads)
