"""Loads the parent: a trained GhostNet from a checkpoint of ours, the authors' or timm's, if need be for other classes
or channels. Its architecture is inferred from the tensors' shapes where no `arch.json` and no model of timm's gives
it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ghostnet.arch import Arch, Block
from ghostnet.files import ARCH_FILE, JsonObject, network_folder, weights_file
from ghostnet.network import GhostNet
from ghostnet.published import SE_RATIO, TABLE_1, make_divisible
from ghostnet.units import intrinsic_chs
from ghostnet.weights import (
    Order,
    State,
    WeightsError,
    check_values,
    classes_and_channels,
    fill,
    read_weights,
)

TIMM = "timm:"  # before the name of one of timm's models


def is_path(source: str | Path) -> bool:
    """Whether the source of a parent is a file or folder, and not a name."""
    return not str(source).startswith(TIMM)


def load_parent(
    source: str | Path,
    *,
    arch: Arch | None = None,
    num_classes: int | None = None,
    in_chs: int | None = None,
    order: Order | None = None,
    fresh_head: bool = False,
    generator: torch.Generator | None = None,
) -> GhostNet:
    """The trained network of `source`, in evaluation mode.

    Args:
        source: a folder with `arch.json` and `weights.safetensors` (`model.safetensors` in one for the Hub), a
            transplanted supernet's, whose parent is meant, a `.safetensors` or `.pth` checkpoint of such parameter
            names (timm's `CheckpointSaver` and `torch.compile` add to them), or `timm:NAME`, which timm downloads.
        arch: where None, that of the `arch.json` in the folder or beside the file, or of timm's model where it is
            ours; else read from the shapes, and what they don't tell is the paper's (stem stride 2, resolution 224,
            alignment 1, kernels that are dead).
        num_classes: the classifier is fresh if this is not the checkpoint's; its own where None.
        in_chs: the stem's filters are repeated or summed, as timm does it, if this is not the checkpoint's.
        order: of ghosts at s > 2; None where the file or its shapes tell.
        fresh_head: the classifier is fresh in any case: it is to tell other classes, though as many.
        generator: source of a fresh classifier's weights; torch's global one where None.

    Raises:
        WeightsError: no such file or model, no GhostNet's weights, such as give no numbers, or a file of an
            architecture that shapes don't tell.
        ArchError: the `arch.json` is none.
    """
    about: JsonObject = {}
    if not is_path(source):
        model = _timm(str(source).removeprefix(TIMM))
        state = model.state_dict()
        if isinstance(model, GhostNet):
            arch, order = arch or model.arch, "replica-major"
    else:
        path = Path(source).expanduser()
        if path.is_dir():
            path = network_folder(path)
            arch = arch or Arch.load(path / ARCH_FILE)
            path = weights_file(path)
        state, about = read_weights(path)
        arch = arch or _arch_beside(path, about)
    try:
        arch = arch or _arch_of(state, about)
        classes, chs = classes_and_channels(state)
        new_head = fresh_head or num_classes not in (None, classes)
        net = GhostNet(arch, classes if num_classes is None else num_classes, in_chs or chs, generator=generator)
        if in_chs not in (None, chs):
            from timm.models import adapt_input_conv

            state["conv_stem.weight"] = adapt_input_conv(in_chs, state["conv_stem.weight"], chs)
        fill(net, state, about, order, ("classifier.",) if new_head else ())
        check_values(net)
        if not _outputs(net.eval()).isfinite().all():
            raise WeightsError("its outputs are not finite")
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
    return net


@torch.no_grad()
def _outputs(net: GhostNet) -> Tensor:
    """Of an image of noise, as large as the network's own, or as ImageNet's."""
    side = min(net.arch.resolution, 224)
    return net(torch.randn(1, net.in_chs, side, side, generator=torch.Generator().manual_seed(0)))


def _arch_beside(path: Path, about: JsonObject) -> Arch | None:
    """The architecture of the `arch.json` beside a weights file; None where there is none, or another network's than
    the file says that it is.

    Raises:
        ArchError: it holds no architecture.
    """
    if not (beside := path.with_name(ARCH_FILE)).is_file():
        return None
    arch = Arch.load(beside)
    return arch if about.get("arch", arch.id) == arch.id else None


def _arch_of(state: State, about: JsonObject) -> Arch:
    """The architecture that the shapes tell, if it is the one that the file says.

    Raises:
        WeightsError: it is another, or they are no GhostNet's.
    """
    arch = infer_arch(state)
    if (recorded := about.get("arch", arch.id)) != arch.id:
        raise WeightsError(
            f"it is of architecture {recorded!r:.80}, which its shapes alone don't tell (they give {arch.id!r}): name "
            f"the network's folder, with its {ARCH_FILE}"
        )
    return arch


def infer_arch(state: State) -> Arch:
    """The architecture whose tensors have these shapes. What they don't tell is the paper's: a stem of stride 2, 224
    pixels, no alignment, and for kernels that nothing uses those of table 1.

    Raises:
        WeightsError: they are no GhostNet's.
    """

    def shape(name: str) -> torch.Size:
        if name not in state or state[name].ndim != 4 or not state[name].numel():
            raise WeightsError(f"it has no GhostNet's weights: {name} is not there")
        return state[name].shape

    counts: list[int] = []  # blocks of every stage
    while f"blocks.{len(counts)}.0.ghost1.primary_conv.0.weight" in state:
        i, j = len(counts), 1
        while f"blocks.{i}.{j}.ghost1.primary_conv.0.weight" in state:
            j += 1
        counts.append(j)
    indices = [(i, j) for i, count in enumerate(counts) for j in range(count)]
    readers = [f"blocks.{i}.{j}.ghost1.primary_conv.0.weight" for i, j in indices]
    readers.append(f"blocks.{len(counts)}.0.conv.weight")
    shape(readers[0])
    stages: list[list[Block]] = [[] for _ in counts]
    for (i, j), after in zip(indices, readers[1:], strict=True):
        name = f"blocks.{i}.{j}"
        mid, out = shape(f"{name}.ghost2.primary_conv.0.weight")[1], shape(after)[1]
        primaries = [shape(f"{name}.{ghost}.primary_conv.0.weight")[0] for ghost in ("ghost1", "ghost2")]
        cheap = [state.get(f"{name}.{ghost}.cheap_operation.0.weight") for ghost in ("ghost1", "ghost2")]
        kernels = [weight.shape[-1] for weight in cheap if weight is not None and weight.ndim == 4]
        ratios = [s for s in range(1, 65) if [intrinsic_chs(n, s) for n in (mid, out)] == primaries]
        if not ratios:
            raise WeightsError(f"no ratio s makes {primaries} primaries of {mid} and {out} channels at {name}")
        strided = f"{name}.conv_dw.weight" in state
        uses = [n for n in (f"{name}.conv_dw.weight", f"{name}.shortcut.0.weight") if n in state]
        row = TABLE_1[i][j] if i < len(TABLE_1) and j < len(TABLE_1[i]) else None
        se_ratio = 0.0
        if f"{name}.se.conv_reduce.weight" in state:
            hidden = shape(f"{name}.se.conv_reduce.weight")[0]
            se_ratio = SE_RATIO if make_divisible(SE_RATIO * mid) == hidden else min(1.0, hidden / mid)
        stages[i].append(
            Block(
                mid_chs=mid,
                out_chs=out,
                dw_kernel=shape(uses[0])[-1] if uses else row.dw_kernel if row else 3,
                stride=2 if strided else 1,
                se_ratio=se_ratio,
                ratio=ratios[0],
                cheap_kernel=kernels[0] if kernels else 1,
            )
        )
    return Arch(
        stages=tuple(map(tuple, stages)),
        stem_chs=shape("conv_stem.weight")[0],
        tail_chs=shape(readers[-1])[0],
        head_chs=shape("conv_head.weight")[0],
    )


def _timm(name: str) -> nn.Module:
    import timm

    import ghostnet.timm_model  # noqa: F401  a network of ours may be the parent, from a Hub folder

    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # timm fails in its own ways where a name is unknown or nothing can be downloaded
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"timm has no trained {name!r}: {reason}") from None
