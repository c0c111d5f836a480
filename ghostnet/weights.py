"""Reads and writes checkpoints, under the parameter names of the authors' code, which are timm's.

Files are safetensors, or PyTorch's own format read with `weights_only=True`: nothing is ever unpickled.

At s > 2 the authors' module orders its ghosts primary by primary (one grouped convolution), ours replica by replica
(`ghostnet.arch.GHOST_ORDER`). `fit_state` rewrites the first into the second: the channels of every ghost module change
places, and so do the filters that read them. Files of ours say their order; of others', it must be told wherever the
shapes don't show it.
"""

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ghostnet.arch import GHOST_ORDER, Arch, ArchError
from ghostnet.archives import load_tensors
from ghostnet.files import JsonObject, parse_json, read_bytes, write_bytes
from ghostnet.network import GhostNet
from ghostnet.units import Bottleneck, intrinsic_chs, units

State = dict[str, Tensor]
Order = Literal["replica-major", "grouped"]
SCHEMA = "ghostnas.weights/1"
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # what training scripts put the tensors under
NORM = ("weight", "bias", "running_mean", "running_var")


class WeightsError(ArchError):
    """A checkpoint that can't be read, or doesn't fit; the message names the file and the first names that differ."""


def load_weights(net: GhostNet, path: str | Path, order: Order | None = None, ignore: Sequence[str] = ()) -> GhostNet:
    """Reads a checkpoint into a network, in place, and returns the network.

    Args:
        path: a `.safetensors` file, or one that `torch.save` wrote.
        order: of ghosts at s > 2; None where the file or its shapes tell.
        ignore: prefixes of names that are left as they are in the network, such as `classifier.`.

    Raises:
        WeightsError: no such file, not a checkpoint, or not this network's.
    """
    state, about = read_weights(path)
    try:
        fill(net, state, about, order, ignore)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    return net


def fill(
    net: GhostNet, state: State, about: JsonObject, order: Order | None = None, ignore: Sequence[str] = ()
) -> None:
    """Gives a network the tensors of a checkpoint that was read, as `load_weights` does.

    Raises:
        WeightsError: they aren't this network's.
    """
    net.load_state_dict(fit_state(net, state, recorded_order(about, order), ignore))


def recorded_order(about: JsonObject, order: Order | None) -> Order | None:
    """The order of a checkpoint's ghosts: ours, where its file says something of itself, as ours alone do; or `order`.

    Raises:
        WeightsError: the file says another.
    """
    if not about:
        return order
    if (recorded := about.get("ghost_order", GHOST_ORDER)) != GHOST_ORDER:
        raise WeightsError(f"its ghost order is {recorded!r:.80}, not {GHOST_ORDER!r}")
    return "replica-major"


def load_network(arch: Arch, path: str | Path, order: Order | None = None) -> GhostNet:
    """The network of an architecture with a checkpoint's weights, classes and input channels, in evaluation mode.

    Raises:
        WeightsError: as `load_weights`, or as `check_values`.
    """
    state, about = read_weights(path)
    try:
        net = GhostNet(arch, *classes_and_channels(state))
        fill(net, state, about, order)
        check_values(net)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    return net.eval()


def check_values(net: nn.Module) -> None:
    """Raises:
    WeightsError: a network's outputs can't be numbers: a value is not finite, or a variance below zero.
    """
    for name, tensor in net.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"its {name} is not finite")
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise WeightsError(f"its {name} must be variances, but one is {float(tensor.min()):.3g}")


def classes_and_channels(state: State) -> tuple[int, int]:
    """Classes and input channels of a checkpoint's network.

    Raises:
        WeightsError: it is no GhostNet's.
    """
    classifier, stem = state.get("classifier.weight"), state.get("conv_stem.weight")
    if stem is None or stem.ndim != 4:
        raise WeightsError("it has no GhostNet's weights: conv_stem.weight is not there")
    if classifier is not None and classifier.ndim != 2:
        raise WeightsError(f"its classifier.weight must have two dimensions, but got {list(classifier.shape)}")
    return 0 if classifier is None else len(classifier), stem.shape[1]


def save_weights(net: nn.Module, path: str | Path) -> None:
    """Writes a network's tensors, as safetensors or, by the suffix `.pth` or `.pt`, as PyTorch does.

    Raises:
        WeightsError: another suffix.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        write_bytes(path, to_bytes(net))
    elif path.suffix in (".pth", ".pt"):
        buffer = io.BytesIO()
        torch.save({k: v.detach().cpu() for k, v in net.state_dict().items()}, buffer)
        write_bytes(path, buffer.getvalue())
    else:
        raise WeightsError(f"weights are written as .safetensors, .pth or .pt, not {path.name!r}")


def to_bytes(net: nn.Module) -> bytes:
    """A network's tensors as a safetensors file's content, its architecture's id and ghost order in the header."""
    from safetensors.torch import save as dump

    arch = getattr(net, "arch", None)
    about = {"schema": SCHEMA, "ghost_order": GHOST_ORDER} | ({"arch": arch.id} if isinstance(arch, Arch) else {})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    return dump(tensors, {"ghostnas": json.dumps(about)})  # one entry: safetensors writes several in any order


def read_weights(path: str | Path) -> tuple[State, JsonObject]:
    """The tensors of a checkpoint on the CPU, and what a file of ours says of itself.

    Averaged weights are taken where a file has both; what wrappers (`DataParallel`, `torch.compile`) put before the
    names is dropped.

    Raises:
        WeightsError: no such file, or it is no checkpoint.
    """
    path = Path(path)
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else (_tensors(path), {})
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from None
    except MemoryError:
        raise WeightsError(f"{path} can't be read: there is not enough memory") from None


def _safetensors(path: Path) -> tuple[State, JsonObject]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    content = read_bytes(path, sys.maxsize)  # says why, where it can't be read
    try:
        with safe_open(path, framework="numpy") as opened:
            about = parse_json((opened.metadata() or {}).get("ghostnas", "{}").encode())
        state = load(content)  # `safe_open` makes a fault of the file out of Ctrl-C in one of its tensors
    except (SafetensorError, LookupError, ValueError, TypeError, OSError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {str(error)[:200]}") from None
    if not isinstance(about, dict):
        raise WeightsError(f"{path} says {about!r:.80} of itself, which must be a JSON object")
    return _own_names(path, state), about


def _tensors(path: Path) -> State:
    """What `torch.save` wrote: tensors by their names, however a training script wrapped them."""
    try:
        content = load_tensors(read_bytes(path, sys.maxsize))
    except ValueError as error:
        raise WeightsError(f"{path} {error}") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no table of tensors")
    return _own_names(path, content)


def _own_names(path: Path, tensors: Mapping[Any, Tensor]) -> State:
    """The tensors by their names without what wrappers put before them."""
    state: State = {}
    for key, tensor in tensors.items():
        name = re.sub(r"^((module|_orig_mod)\.)+", "", str(key))
        if name in state:
            raise WeightsError(f"{path} has {name[:80]!r} twice, with a wrapper's prefix and without")
        if kind := _unusable(name, tensor):
            raise WeightsError(f"{path}: {name[:80]!r} must be a dense tensor of real numbers, but it is {kind}")
        state[name] = tensor
    return state


def _unusable(name: str, tensor: Tensor) -> str:
    """What is odd about a tensor that can be no weight; nothing where it can. Norms count their steps in integers."""
    if tensor.is_meta:
        return "without data"
    if tensor.is_nested or tensor.layout is not torch.strided:
        return "nested" if tensor.is_nested else str(tensor.layout)
    counts = name.endswith("num_batches_tracked") and tensor.dtype is torch.int64
    packed = tensor.dtype is getattr(torch, "float4_e2m1fn_x2", None)  # two numbers in each of its values
    return "" if (tensor.is_floating_point() and not packed) or counts else str(tensor.dtype)


def fit_state(net: GhostNet, state: State, order: Order | None = None, ignore: Sequence[str] = ()) -> State:
    """A checkpoint's tensors as `net.load_state_dict` takes them: ghosts in our order, all names and shapes right.

    Raises:
        WeightsError: names or shapes differ, or the ghosts' order is unknown or has no exact form here.
    """
    own = net.state_dict()
    skipped = (*ignore, *(() if net.num_classes else ("classifier.",)))
    state = {name: tensor for name, tensor in state.items() if not (skipped and name.startswith(skipped))}
    state |= {k: v for k, v in own.items() if skipped and k.startswith(skipped)}
    state |= {k: v for k, v in own.items() if k.endswith("num_batches_tracked") and k not in state}
    if own.keys() == state.keys() and (order or _order(net.arch, state)) == "grouped":
        state = from_grouped(net.arch, state)
    differ = [f"it lacks {name}" for name in own if name not in state]
    differ += [f"it has {name[:80]!r}, which the network doesn't" for name in state if name not in own]
    differ += [
        f"its {name} is {list(state[name].shape)} where the network's is {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if differ:
        more = f"; and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise WeightsError(f"not weights of architecture {net.arch.id}: " + "; ".join(differ[:3]) + more)
    return state


def _ghosts(arch: Arch) -> list[tuple[str, int, int, int]]:
    """Name, outputs n, primaries m and ratio s of every Ghost module that has ghosts."""
    modules = []
    for block_name, block in zip(arch.block_names, arch.blocks, strict=True):
        for name, n in (("ghost1", block.mid_chs), ("ghost2", block.out_chs)):
            m = intrinsic_chs(n, block.ratio, arch.align)
            if n > m:
                modules.append((f"{block_name}.{name}", n, m, block.ratio))
    return modules


def _order(arch: Arch, state: State) -> Order:
    """The order that the shapes tell: a grouped module has all m (s - 1) ghosts, ours no dead ones."""
    ambiguous = None
    for name, n, m, ratio in _ghosts(arch):
        weight = state[f"{name}.cheap_operation.0.weight"]
        rows = weight.shape[0] if weight.ndim else 0
        if rows == m * (ratio - 1) != n - m:
            return "grouped"
        if rows != m * (ratio - 1):
            return "replica-major"
        ambiguous = name if ratio > 2 and not ambiguous else ambiguous
    if ambiguous:
        raise WeightsError(
            f"its ghosts' order can't be told at {ambiguous} (s > 2): `ghostnet.weights.load_network` takes order="
            "'grouped' (the authors', timm's) or 'replica-major' (ours), and what `save_weights` writes then tells it"
        )
    return "replica-major"


def from_grouped(arch: Arch, state: State) -> State:
    """The tensors of a network built of the authors' grouped Ghost modules, rewritten for `GhostNet(arch)`.

    The two compute the same function with channels in another order. That is exact unless the authors' slice cuts two
    ghosts of one primary, or an identity shortcut joins blocks of different s above 2.

    Raises:
        WeightsError: one of those.
    """
    new = dict(state)

    def take(name: str, index: list[int], dim: int = 0) -> None:
        if name in new:
            if max(index) >= (channels := new[name].shape[dim] if dim < new[name].ndim else 0):
                raise WeightsError(f"{name} has {channels} channels where the network has more")
            new[name] = new[name].index_select(dim, torch.tensor(index))

    def norm(name: str, index: list[int]) -> None:
        for leaf in NORM:
            take(f"{name}.{leaf}", index)

    def conv(name: str, out: list[int] | None = None, inp: list[int] | None = None) -> None:
        if out is not None:
            take(f"{name}.weight", out)
            take(f"{name}.bias", out)
        if inp is not None:
            take(f"{name}.weight", inp, 1)

    def ghost(name: str, n: int, ratio: int, inp: list[int]) -> list[int]:
        """Rewrites one module that reads channels in the order `inp`; the order of its outputs."""
        m = intrinsic_chs(n, ratio, arch.align)
        order = _their_channels(name, n, m, ratio)
        conv(f"{name}.primary_conv.0", inp=inp)
        kept = [channel - m for channel in order[m:]]
        if kept:
            conv(f"{name}.cheap_operation.0", out=kept)
            norm(f"{name}.cheap_operation.1", kept)
        return order

    chain = units(arch)
    bottlenecks = [unit for unit in chain if isinstance(unit, Bottleneck)]
    first = bottlenecks[0]
    stream = list(range(arch.stem_chs))  # our channel j is their channel stream[j]
    if not first.has_shortcut:  # the stem's filters may stand in any order
        n, ratio = first.block.out_chs, first.block.ratio
        stream = _their_channels(f"{arch.block_names[0]}.ghost2", n, intrinsic_chs(n, ratio, arch.align), ratio)
        conv("conv_stem", out=stream)
        norm("bn1", stream)
    for block_name, unit in zip(arch.block_names, bottlenecks, strict=True):
        mid = ghost(f"{block_name}.ghost1", unit.block.mid_chs, unit.block.ratio, stream)
        conv(f"{block_name}.conv_dw", out=mid)
        norm(f"{block_name}.bn_dw", mid)
        conv(f"{block_name}.se.conv_reduce", inp=mid)
        conv(f"{block_name}.se.conv_expand", out=mid)
        out = ghost(f"{block_name}.ghost2", unit.block.out_chs, unit.block.ratio, mid)
        if unit.has_shortcut:
            conv(f"{block_name}.shortcut.0", out=stream)
            norm(f"{block_name}.shortcut.1", stream)
            conv(f"{block_name}.shortcut.2", out=out, inp=stream)
            norm(f"{block_name}.shortcut.3", out)
        elif stream != out:
            raise WeightsError(f"grouped ghosts have no exact form here: s changes along the shortcut of {block_name}")
        stream = out
    conv(f"blocks.{len(arch.stages)}.0.conv", inp=stream)
    return new


def _their_channels(name: str, n: int, m: int, ratio: int) -> list[int]:
    """For each of our outputs, the grouped module's: ghost r of primary g is output m + g (s - 1) + r there."""
    order = list(range(m)) + [m + (k % m) * (ratio - 1) + k // m for k in range(n - m)]
    if n > m and max(order) >= n:
        raise WeightsError(
            f"grouped ghosts have no exact form here: at {name} the slice to {n} channels at s = {ratio} cuts "
            "two ghosts of one primary"
        )
    return order
