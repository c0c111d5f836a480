"""The covering architectures of a space, which a supernet is built for: networks that between them reach the largest
shape of every tensor of a space."""

from collections.abc import Iterator

import numpy as np

from ghostnet.arch import Arch
from ghostnet.cost import layers
from spaces.encoding import decode
from spaces.genes import Codes
from spaces.layout import Layout


def covering_architectures(layout: Layout) -> tuple[Arch, ...]:
    """The candidates that enlarge some layer beyond those before them."""
    spec = layout.spec
    largest: dict[str, np.ndarray] = {}
    kept: dict[Arch, None] = {}
    for code in _candidates(layout):
        arch = decode(layout, code)
        for layer in layers(arch, spec.num_classes, spec.in_chs):
            shape = np.array([layer.in_chs // layer.groups, layer.out_chs, layer.kernel])
            before = largest.get(layer.name)
            if before is None or (shape > before).any():
                largest[layer.name] = shape if before is None else np.maximum(before, shape)
                kept[arch] = None
    return tuple(kept)


def _candidates(layout: Layout) -> Iterator[Codes]:
    """The largest network at each ratio s; with one width lower, where a convolution may take the place of an identity
    shortcut; and every ratio, width and expansion together, since aligned primary widths leave more channels to the
    ghosts at some narrower widths."""
    spec, top, widths = layout.spec, layout.choices - 1, list(layout.widths)
    ghosts = [block.ghost for block in layout.blocks]
    expansions = [block.expansion for block in layout.blocks if block.expansion is not None]

    def at(ratio: int, width: int, expansion: int) -> Codes:
        code = top.copy()
        for gene in ghosts:
            code[gene] = max(k for k, (s, _) in enumerate(layout.genes[gene].choices) if s == ratio)
        code[widths] = np.minimum(top[widths], width)
        code[expansions] = expansion
        return code

    all_widths, all_expansions = range(len(spec.widths))[::-1], range(len(spec.expansions))[::-1]
    for ratio in spec.ratios:
        yield at(ratio, all_widths[0], all_expansions[0])
    for gene in widths:
        for choice in range(top[gene])[::-1]:
            code = top.copy()
            code[gene] = choice
            yield code
    for ratio in spec.ratios:
        for width in all_widths:
            for expansion in all_expansions:
                yield at(ratio, width, expansion)
