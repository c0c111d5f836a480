"""Networks that a full training learns from: a supernet's largest or parent, one trained before, or any of timm's.

Named `supernet:FOLDER`, `network:FOLDER` (with `arch.json` and `weights.safetensors`) or `timm:NAME`, whose weights
timm downloads unless NAME is `local-dir:FOLDER`.
"""

import hashlib
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

import ghostnet.timm_model  # noqa: F401  a network of ours may be the teacher, from a Hub folder
from ghostnet.arch import Arch
from ghostnet.files import ARCH_FILE, weights_file
from ghostnet.inference import for_inference
from ghostnet.network import GhostNet
from ghostnet.resize import resized
from ghostnet.weights import load_network
from search.data.datasets import Data
from search.data.names import check_teacher, teacher_source
from search.errors import UserError, first_line
from search.training.inherited import inherited_accuracy, read_parent
from search.training.known_images import TimmData, known_images, other_classes
from search.training.metadata import read_metadata

MEMORY = 1 << 26  # bytes of a teacher's answers
Teacher = Callable[[Tensor], Tensor]  # images [B, C, H, W], normalised as the data's -> logits [B, classes]


def load_teacher(name: str, data: Data, device: torch.device) -> "FrozenTeacher":
    """The teacher of that name, in evaluation mode.

    Raises:
        UserError: it can't be had, or has other classes or channels than the data.
    """
    check_teacher(name)
    source = teacher_source(name)
    if source.kind == "timm":
        return FrozenTeacher(*_timm(source.model, data), data, device)
    assert source.folder
    net, side = _supernet(source.folder, data) if source.kind == "supernet" else _network(source.folder)
    if (net.num_classes, net.in_chs) != (data.num_classes, data.in_chs):
        raise UserError(
            f"the teacher {name} has {net.num_classes} classes and {net.in_chs} channels, the data {data.num_classes} "
            f"and {data.in_chs}"
        )
    known = known_images(source.folder)
    if difference := other_classes(known, data):
        raise UserError(f"the teacher {name} {difference}")
    shown = data.normalised_as(known.mean, known.std) if known else data
    return FrozenTeacher(net, side, shown.mean, shown.std, data, device)


class Answers:
    """What a teacher answered to images, by their content, for as long as this process lives.

    Networks that are trained one after the other by one seed are shown the same images, and a teacher is often larger
    than its students: all but the first find every answer here. The earliest answers are kept, as many as fit; of the
    latest, those of a sequence that is too long would be dropped just before they are wanted again.

    Args:
        memory: bytes, at most.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.left = memory
        self._known: dict[tuple[torch.Size, bytes], Tensor] = {}

    def __call__(self, teacher: Teacher, images: Tensor) -> Tensor:
        """The teacher's answer to images on the CPU; it is asked where that isn't known."""
        key = images.shape, hashlib.blake2b(images.contiguous().numpy().data, digest_size=16).digest()
        if key not in self._known:
            answer = teacher(images)
            if (size := answer.numel() * answer.element_size()) > self.left:
                return answer
            self._known[key], self.left = answer, self.left - size
        return self._known[key].clone()


@lru_cache(maxsize=1)
def answers_of(identity: str) -> Answers:
    """Those of the teacher that was loaded last; `identity` says all that its answers depend on."""
    return Answers()


def askers(networks: int, workers: int, device: torch.device) -> int:
    """How many of several networks ask a teacher, where others find what it answered.

    Args:
        workers: processes that train them, times the seeds by which each network is trained.
    """
    return min(networks, workers) if device.type == "cpu" else networks


class FrozenTeacher:
    """A network with its own resolution and normalisation, without gradients."""

    def __init__(
        self,
        net: nn.Module,
        side: int | None,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        data: Data,
        device: torch.device,
    ) -> None:
        self.net, self.side = for_inference(net).to(memory_format=torch.channels_last), side
        theirs, ours = (torch.tensor(v) for v in (std, data.std))
        self.scale = (ours / theirs)[:, None, None]  # (x ours + mean - their mean) / theirs
        shift = torch.tensor(data.mean) - torch.tensor(mean)
        self.shift = (shift / theirs)[:, None, None]
        self.to(device)

    def to(self, device: torch.device) -> None:
        """Moves it, in place."""
        self.net = self.net.to(device)
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)

    @cached_property
    def identity(self) -> str:
        """All that its answers depend on, but for the precision in which it is asked."""
        return repr((network_digest(self.net), self.side, self.scale.tolist(), self.shift.tolist()))

    def __call__(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]"""
        if images.device.type != "cpu":  # what is on a GPU would have to come here
            return self._ask(images)
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        return answers_of(f"{self.identity} {precision}")(self._ask, images)

    @torch.no_grad()
    def _ask(self, images: Tensor) -> Tensor:
        return self.net(resized(images * self.scale + self.shift, self.side)).float()


def network_digest(net: nn.Module) -> str:
    """A hash of a network's modules, as they are printed, and of all its tensors."""
    content = hashlib.sha256(repr(net).encode())
    for name, tensor in net.state_dict().items():
        content.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def _supernet(folder: Path, data: Data) -> tuple[GhostNet, int]:
    metadata, space = read_metadata(folder)
    if metadata.kind == "transplant":
        parent = read_parent(folder)
        return parent, parent.arch.resolution
    return inherited_accuracy(folder, data).network(space.largest), space.largest.resolution


def _network(folder: Path) -> tuple[GhostNet, int]:
    arch = Arch.load(folder / ARCH_FILE)
    return load_network(arch, weights_file(folder)), arch.resolution


def _timm(name: str, data: Data) -> tuple[nn.Module, int | None, tuple[float, ...], tuple[float, ...]]:
    import timm
    from timm.data import resolve_model_data_config

    try:
        net = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm fails in its own ways where a name is unknown or nothing can be downloaded
        raise UserError(f"timm has no teacher {name!r}: {first_line(error)}") from None
    config = resolve_model_data_config(net)
    classes, channels = int(net.num_classes), config["input_size"][0]  # type: ignore[arg-type]
    if (classes, channels) != (data.num_classes, data.in_chs):
        raise UserError(
            f"the teacher timm:{name} has {classes} classes and {channels} channels, the data {data.num_classes} and "
            f"{data.in_chs}"
        )
    if difference := other_classes(TimmData(label_names=_label_names(net)), data):
        raise UserError(f"the teacher timm:{name} {difference}")
    return net, config["input_size"][-1], tuple(config["mean"]), tuple(config["std"])


def _label_names(net: nn.Module) -> list[str] | None:
    """The names of the classes of one of timm's networks, where its configuration has them."""
    names = getattr(net, "pretrained_cfg", {}).get("label_names")
    return list(map(str, names)) if isinstance(names, list | tuple) else None
