"""`config.json` as timm reads it: what builds the network again, and how its images are prepared."""

from collections.abc import Sequence

from ghostnet.network import GhostNet


def timm_config(
    net: GhostNet,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
) -> dict[str, object]:
    """What `timm.create_model("local-dir:FOLDER")` needs, after `import ghostnet.timm_model`.

    Args:
        mean, std: by which the data's pixels are normalised, a channel each.
        classes: the names of the data's classes, where they are known.
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
            "interpolation": "bilinear",
            "crop_pct": 0.875 if side >= 96 else 1.0,  # as this data set's images were cropped in training and tests
            "crop_mode": "center",
            "mean": list(mean or [0.0] * channels),
            "std": list(std or [1.0] * channels),
            "num_classes": net.num_classes,
            "first_conv": "conv_stem",
            "classifier": "classifier",
            **({"label_names": list(classes)} if classes else {}),
        },
    }
