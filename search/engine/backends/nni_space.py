"""A space as NNI's `ModelSpace`, for NNI's own exploration strategies: one choice a gene, and the standalone network.

    experiment = NasExperiment(model_space(space), FunctionalEvaluator(evaluate), RegularizedEvolution())

`evaluate(model)` gets a model whose `arch` is what was chosen, and reports with `nni.report_final_result`.
"""

from typing import Any

import numpy as np

from ghostnet.network import GhostNet
from search.errors import UserError
from spaces.custom import parse_space, space_to_dict
from spaces.space import Space


def model_space(space: Space) -> Any:
    """The NNI model space of a space.

    Raises:
        UserError: NNI, or what it needs for architectures, is not installed.
    """
    try:
        import nni
        from nni.mutable.frozen import ensure_frozen
        from nni.nas.nn.pytorch import ModelSpace
    except ImportError as error:
        raise UserError(f"NNI's model spaces need NNI ({error}): pip install 'ghostnas[nni]'") from None

    class GhostSpace(ModelSpace):
        """The network of one choice for each gene."""

        def __init__(self, record: Any, num_classes: int, in_chs: int) -> None:
            super().__init__()
            rebuilt = parse_space(record)
            genes = [nni.choice(gene.name, list(range(len(gene.choices)))) for gene in rebuilt.genes]
            for gene in genes:
                self.add_mutable(gene)
            code = [ensure_frozen(gene, strict=False) for gene in genes]  # what a strategy chose; the first, before
            self.arch = rebuilt.decode(np.array(code, dtype=np.int64))
            self.net = GhostNet(self.arch, num_classes, in_chs)

        def forward(self, x: Any) -> Any:
            """[B, in_chs, H, W] -> [B, num_classes]"""
            return self.net(x)

    return GhostSpace(space_to_dict(space), space.num_classes, space.in_chs)
