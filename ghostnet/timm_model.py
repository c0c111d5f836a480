"""GhostNets of any architecture as timm models: `import ghostnet.timm_model`, then `timm.create_model("ghostnas",
arch=...)`.

`arch` is an `Arch`, its dictionary, the path of an `arch.json` or of a folder with one, or a published name. With
`features_only=True` it is a backbone: the last block's output at each stride (timm's own GhostNet gives the first
stage's, which has fewer channels). `local-dir:FOLDER` and `hf-hub:NAME` read an export's `hub` folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from ghostnet.arch import Arch
from ghostnet.backbone import first_blocks
from ghostnet.files import ARCH_FILE
from ghostnet.network import GhostNet
from ghostnet.published import published
from ghostnet.units import feature_maps

default_cfgs = generate_default_cfgs(
    {
        "ghostnas": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "conv_stem",
            "classifier": "classifier",
        }
    }
)


class TimmGhostNet(GhostNet):
    """`GhostNet` with what timm asks of a model.

    Args:
        global_pool: `avg`; the network has no other.

    Raises:
        ArchError: there is no such architecture.
    """

    def __init__(
        self,
        arch: Arch | Mapping[str, Any] | str | Path,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        if global_pool != "avg":
            raise ValueError(f"`global_pool` must be 'avg', but got {global_pool!r}")
        arch = _arch(arch)
        super().__init__(arch, num_classes, in_chans, drop_rate, drop_path_rate)
        self.in_chans, self.num_features, self.head_hidden_size = in_chans, arch.tail_chs, arch.head_chs
        self._maps = feature_maps(arch)
        stages = [i for i, stage in enumerate(arch.stages) for _ in stage]
        self.feature_info = [
            {"num_chs": each.chs, "reduction": each.stride, "module": f"blocks.{stages[each.block]}"}
            for each in self._maps
        ]

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier of so many classes; 0 leaves it out."""
        self.num_classes = num_classes
        fresh = nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
        self.classifier = fresh.to(self.conv_stem.weight)  # type: ignore[arg-type, assignment]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, tail_chs, h, w] -> logits [B, num_classes], or what the classifier is given, [B, head_chs]"""
        if not pre_logits:
            return super().forward_head(x)
        return self.act2(self.conv_head(self.global_pool(x))).flatten(1)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Images in; the maps of `feature_info` at `indices` out (all where None, the last n where a number n), and the
        trunk's output before them unless `intermediates_only`."""
        if output_fmt != "NCHW":
            raise ValueError(f"`output_fmt` must be 'NCHW', but got {output_fmt!r}")
        taken = self._taken(indices)
        wanted = [self._maps[i].block for i in taken]
        x = self.act1(self.bn1(self.conv_stem(x)))
        maps: dict[int, Tensor] = {}
        last = max(wanted) if intermediates_only or stop_early else None
        for k, block in enumerate(block for stage in self.blocks for block in stage):  # type: ignore[attr-defined]
            x = block(x)
            if k in wanted:
                maps[k] = x
            if k == last:
                break
        outputs = [maps[k] for k in wanted]
        return outputs if intermediates_only else (x, outputs)

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Takes away what the maps at `indices` don't need; their indices."""
        taken = self._taken(indices)
        deepest = max(taken)
        self.blocks = first_blocks(self, self._maps[deepest].block + 1)
        self.conv_head, self.act2 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.num_features = self.head_hidden_size = self._maps[deepest].chs
        self.reset_classifier(0)
        return taken

    def _taken(self, indices: int | list[int] | None) -> list[int]:
        count = len(self._maps)
        if isinstance(indices, int):
            indices = list(range(count - indices, count))
        taken = [i + count if i < 0 else i for i in (range(count) if indices is None else indices)]
        if not taken or not all(0 <= i < count for i in taken):
            raise ValueError(f"a feature map is one of 0 to {count - 1} (or counted from the end), not {indices!r}")
        return taken

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Layers in groups for layer-wise learning rates, as timm's GhostNet has them."""
        blocks = r"^blocks\.(\d+)" if coarse else r"^blocks\.(\d+)\.(\d+)"
        return {"stem": r"^conv_stem|bn1", "blocks": [(blocks, None), (r"conv_head", (99999,))]}

    def no_weight_decay(self) -> set[str]:
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            raise NotImplementedError("gradient checkpointing is not built into GhostNets: their activations are small")


def _arch(arch: Arch | Mapping[str, Any] | str | Path) -> Arch:
    if isinstance(arch, Arch):
        return arch
    if isinstance(arch, Mapping):
        return Arch.from_dict(arch)
    path = Path(arch)
    if path.is_dir():
        return Arch.load(path / ARCH_FILE)
    return Arch.load(path) if path.suffix == ".json" else published(str(arch))


@register_model
def ghostnas(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A GhostNet of any architecture; `timm.create_model`'s keywords, and `arch`."""
    features = {"feature_cls": "getter", "out_indices": kwargs.pop("out_indices", None)}
    return build_model_with_cfg(TimmGhostNet, "ghostnas", pretrained, feature_cfg=features, **kwargs)
