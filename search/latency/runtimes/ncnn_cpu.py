"""ncnn on the CPU: a runtime of phones and of small boards."""

from typing import TYPE_CHECKING, ClassVar

from search.latency.runtimes.base import Adapter, Dtype, Session, Shape
from search.latency.timing.ncnn_session import NcnnSession, pack_ncnn

if TYPE_CHECKING:
    from torch import nn

    from search.graphs.lowering import Lowering


class Ncnn(Adapter):
    """`.param` and `.bin` files of ours (search/graphs/ncnn_builder.py), for an image at a time, in a zip archive."""

    name = NcnnSession.runtime
    package = "ncnn"
    extra = "ncnn"
    standalone = NcnnSession
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "split"}
    exports: ClassVar[dict[Dtype, str]] = {"float32": "ncnn"}

    def version(self) -> str:
        return NcnnSession.version()

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        from search.graphs.onnx_graph import to_ncnn

        model = to_ncnn(module, shape, self.lowering)
        return pack_ncnn(model.param.encode(), model.weights)

    def load(self, compiled: bytes) -> Session:
        return NcnnSession(compiled, self.threads)
