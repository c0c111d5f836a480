"""`config.json` as timm reads it: what builds the network again, and how its images are prepared."""

from collections.abc import Sequence

from ghostnet.network import GhostNet
from search.data.crop import INTERPOLATION, crop_share
from search.export.manifest import Manifest


def timm_config(
    net: GhostNet,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    loaded_at: int | None = None,
) -> dict[str, object]:
    """What `timm.create_model("local-dir:FOLDER")` needs, after `import ghostnet.timm_model`.

    Args:
        mean, std: by which the data's pixels are normalised, a channel each.
        classes: the names of the data's classes, where they are known.
        loaded_at: the side at which its images were cropped; its own where None.
    """
    side, channels = net.arch.resolution, net.in_chs
    return {
        "architecture": "ghostnas",
        "num_classes": net.num_classes,
        "num_features": net.arch.tail_chs,
        "model_args": {"arch": net.arch.to_dict(), "in_chans": channels},
        "pretrained_cfg": {
            "input_size": [channels, side, side],
            "fixed_input_size": False,
            "interpolation": INTERPOLATION,
            "crop_pct": crop_share(loaded_at or side),  # as this data set's images were cropped in training and tests
            "crop_mode": "center",
            "mean": list(mean or [0.0] * channels),
            "std": list(std or [1.0] * channels),
            "num_classes": net.num_classes,
            "first_conv": "conv_stem",
            "classifier": "classifier",
            **({"label_names": list(classes)} if classes else {}),
        },
    }


def config_of(net: GhostNet, manifest: Manifest) -> dict[str, object]:
    """`timm_config` of a network by what its manifest knows."""
    return timm_config(
        net, mean=manifest.mean, std=manifest.std, classes=manifest.classes, loaded_at=manifest.loaded_at
    )
