"""`config.json` as timm reads it: what builds the network again, and how its images are prepared."""

from typing import Any

from ghostnet.network import GhostNet


def timm_config(net: GhostNet, metadata: dict[str, Any]) -> dict[str, Any]:
    """What `timm.create_model("local-dir:FOLDER")` needs, after `import ghostnet.timm_model`.

    Args:
        metadata: `mean`, `std` and `classes` of the data, where they are known.
    """
    side, channels = net.arch.resolution, net.in_chs
    mean, std = (list(metadata.get(key) or [value] * channels) for key, value in (("mean", 0.0), ("std", 1.0)))
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
            "mean": mean,
            "std": std,
            "num_classes": net.num_classes,
            "first_conv": "conv_stem",
            "classifier": "classifier",
            **({"label_names": list(metadata["classes"])} if metadata.get("classes") else {}),
        },
    }
