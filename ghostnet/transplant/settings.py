"""How networks and units are fitted to a parent, in one value: `Transplants` and `UnitLosses` take it alike."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """All that a fit depends on besides the parent and the images.

    Ridges say how strongly weights are drawn to the parent's, in the mean power of what a layer reads.

    Args:
        pointwise_ridge: of convolutions that read all channels, squeeze-and-excitation's, too.
        depthwise_ridge: of depthwise convolutions and cheap operations.
        head_ridge: of the convolution behind the pooling.
        gain_ridge: of the filters that would make ghosts of primaries, by which channels are chosen.
        decoder_ridge: of the map from a unit's channels to the parent's, for unit losses.
        relu_steps: fits after the first one of a layer that a ReLU follows.
        body: images that all layers but the head are fitted on, the first of those that are given.
        positions: at which regressions read maps, in all images together.
    """

    pointwise_ridge: float = 1e-2
    depthwise_ridge: float = 1e-3
    head_ridge: float = 1e-2
    gain_ridge: float = 1e-4
    decoder_ridge: float = 1e-4
    relu_steps: int = 2
    body: int = 512
    positions: int = 16384


USUAL = FitSettings()
