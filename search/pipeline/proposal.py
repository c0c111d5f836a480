"""A recipe for pictures that nobody has written one for: a space by their size and the budget, trainings by their
number."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import tomli_w

from ghostnet.arch import Arch
from ghostnet.cost import cost
from search.data.names import image_files
from search.errors import UserError
from search.files import JsonObject, check_writable
from search.recipes.schema import Recipe
from spaces.errors import SpaceError
from spaces.presets import PRESETS
from spaces.quantities import Window, format_count
from spaces.space import Space
from spaces.tables import macs_table

if TYPE_CHECKING:  # it loads torch
    from search.data.survey import Survey

SIDES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)  # that are proposed
LADDER = (0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.6, 2.0)  # widths that are proposed, some neighbours at a time
# Sides from which on a preset's rows are taken: its strides leave 4 to 8 pixels a side at the end, 2 or 3 at the least.
BASES = (
    (96, "imagenet", "all rows of GhostNet's table, stem of stride 2"),
    (32, "cifar", "all rows of GhostNet's table, stem of stride 1"),
    (8, "digits", "the first five rows of GhostNet's table, stem of stride 1"),
)
LEAST_SIDE, MOST_SIDE = 8, 1024
OF_PARENT = ("stem_stride", "head_chs")  # of a given parent, which a fit doesn't change
FAMILY = ("rows", "stem_chs", "tail_chs", "head_chs")  # of a preset, what its networks have in common
# Views of images that layers are fitted on, by the least side: larger ones say more.
FITTED = {96: 512, 48: 1024, 8: 2048}
FEW, SOME = 1_000, 10_000  # training images
FEW_OF_A_CLASS = 20  # training images, below which a class is named
SHOWN = 5  # files or classes that are named
NOTES = {
    "min_steps": "however few images there are",
    "ema": "averaged weights are kept",
    "use_held_out": "the search is over by then",
    "distill": "weight of the parent's answers, beside the labels",
    "cutmix": "pictures are mixed in pairs, of which the parent is asked, too",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """A space whose networks lie around a budget.

    Args:
        base: the preset that it is made of.
        rows: what of GhostNet the preset has, in words.
        within: widths of GhostNets inside the budget, ascending; none where all are above it.
    """

    space: Space
    base: str
    rows: str
    within: tuple[float, ...]


def fitting_space(side: int, num_classes: int, window: Window | None, parent: Arch | None = None) -> Fit:
    """The preset for images of a side, at widths around the widest GhostNet that is inside the budget.

    Args:
        window: of multiply-adds; None: what the parent has, or GhostNet 1.0x.
        parent: where there is one, the preset with its stages is taken, with its stem's stride and its head.

    Raises:
        SpaceError: no network of the space is inside the budget, or all are; or no preset has the parent's stages.
    """
    _, base, rows = next((each for each in BASES if side >= each[0]), BASES[-1])
    preset = replace(PRESETS[base], name="folder", resolution=side, widths=LADDER, num_classes=num_classes, in_chs=3)
    if parent is not None:
        base, rows = _base_of(parent)
        kept = {key: getattr(PRESETS[base], key) for key in FAMILY} | {key: getattr(parent, key) for key in OF_PARENT}
        preset = replace(preset, **kept)
    macs = {width: cost(preset.uniform(width), num_classes, 3).macs for width in LADDER}
    high = window.high if window else _macs(parent, side, num_classes) if parent else macs[1.0]
    within = tuple(width for width in LADDER if macs[width] <= high)
    at = max(len(within) - 1, 0)
    space = replace(preset, widths=LADDER[max(0, at - 2) : max(at + 2, 3)])
    if window:
        window.check(space)
        table = macs_table(space)
        code = table.extreme(largest=True)
        if not window.low and (most := int(table.total(code)[0])) < window.high:
            raise SpaceError(
                f"a budget of {window} leaves no network of {side} pixels out: the largest that is proposed, "
                f"{space.decode(code).id}, has {format_count(most)}"
            )
    return Fit(space, base, rows, within)


def _macs(parent: Arch, side: int, num_classes: int) -> int:
    """Multiply-adds of a parent with these classes, shown colour images of that side."""
    return cost(replace(parent, resolution=side), num_classes, 3).macs


def _base_of(parent: Arch) -> tuple[str, str]:
    """The preset whose networks can be fitted to a parent, and what it has of GhostNet's table."""
    strides = [stage[0].stride for stage in parent.stages]
    fitting = [each for each in BASES if [stage[0].stride for stage in PRESETS[each[1]].rows] == strides]
    if not fitting:
        raise SpaceError(
            f"the parent {parent.id} has stages of strides {strides}, as no preset has: a recipe of your own can have "
            "them in the `rows` of its `[space]`"
        )
    _, base, rows = min(fitting, key=lambda each: PRESETS[each[1]].stem_stride != parent.stem_stride)
    return base, f"{rows.partition(',')[0]}, stem of stride {parent.stem_stride}"


def proposed_side(shorter: int) -> int:
    """The largest of the usual sides that pictures are no smaller than, by their middle one's shorter side."""
    return max((side for side in SIDES if side <= shorter), default=SIDES[0])


def propose(
    survey: "Survey", side: int, budget: str | None, parent: str | None = None, parent_arch: Arch | None = None
) -> str:
    """A commented recipe as TOML.

    Args:
        side: of the images in the networks, in pixels.
        budget: of multiply-adds, such as 30M; None: the parent's, or GhostNet 1.0x's.
        parent: a trained GhostNet to begin with; None: one is trained first.
        parent_arch: its architecture.

    Raises:
        SpaceError: a budget that is none, or that no network of the space or every one is inside of; or a parent whose
            stages no preset has.
    """
    window = Window.parse(budget) if budget else None
    fit = fitting_space(side, len(survey.classes), window, parent_arch)
    space, table = fit.space, macs_table(fit.space)
    low, high = (int(table.total(table.extreme(largest))[0]) for largest in (False, True))
    own = _macs(parent_arch, side, space.num_classes) if parent_arch else None
    if budget is None:
        budget = format_count(1.01 * (own or cost(space.uniform(1.0), space.num_classes, space.in_chs).macs))
        if own and not low <= Window.parse(budget).high < high:
            raise SpaceError(
                f"the parent has {format_count(own)} multiply-adds at {side} pixels, and the networks that are "
                f"proposed have {format_count(low)} to {format_count(high)}: how many they may have is to be said, as "
                "with --flops-budget"
            )
    of_parent = f"   # the parent has {format_count(own)}" if own else ""
    parents, networks = _trainings(survey.left_to_train, parent is not None)
    images = next(count for least, count in FITTED.items() if side >= least)
    begins = (
        f"{_key('parent', parent)}\ntune = true             # it is fine-tuned on the pictures first"
        if parent
        else '# parent = "ghostnet_1x.pth"   # a GhostNet that is trained already, of the authors, of timm or your own'
    )
    return f"""\
# {_about(survey)}
# `ghostnas run` this file; `--plan` says first what it takes, `--minutes 60` fits it into a time box.
{_key("data", survey.name)}
{_left_out(survey)}{_split(survey)}
[space]                   # {fit.rows}; {format_count(low)} to {format_count(high)} multiply-adds
base = "{fit.base}"
{_parts_of_parent(fit)}{_key("name", space.name)}
{_key("resolutions", [side])}
{_key("widths", list(space.widths))}   # of GhostNet, stage by stage
ratios = [1, 2, 3, 4]     # ghost ratios s: one primary feature in s
cheap_kernels = [1, 3, 5]
{_key("num_classes", space.num_classes)}
in_chs = 3                # grey pictures are shown with three equal channels

[supernet]                # one GhostNet, to which every network of the space is fitted
kind = "transplant"
{begins}
{_training(parents)}
images = {images}            # views of training images that layers are fitted on

[latency]                 # of this machine; a device without PyTorch: `ghostnas calibrate kit`
runtime = "onnxruntime"
threads = 1
rounds = 2
minutes = 5.0

[search]
{_key("flops_budget", budget)}{of_parent}
evaluate = "soft"         # accuracy by the parent's probabilities, which few images tell better than labels do
trials = 150

[retrain]                 # fine-tuning of the chosen: begins with the transplants and learns from their parent, too
{_training(networks)}
chosen = 3
{_baselines(fit)}
"""


def _baselines(fit: Fit) -> str:
    """The line of the GhostNets that networks are compared with."""
    if fit.within:
        widths, which = fit.within[-2:], "GhostNets inside the budget"
    else:
        widths, which = fit.space.widths[:1], "the narrowest GhostNet, which is above the budget"
    return f"{_key('baseline_widths', list(widths))}   # {which}, trained alike for comparison"


def _parts_of_parent(fit: Fit) -> str:
    """The lines of a stem and a head that are not the preset's."""
    values = {key: getattr(fit.space, key) for key in OF_PARENT}
    lines = [_key(key, value) for key, value in values.items() if value != getattr(PRESETS[fit.base], key)]
    return "".join(f"{line:<25} # the parent's\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedTraining:
    """What a recipe says of a training; what is None stays the default."""

    batch_size: int
    warmup_epochs: float = 1.0
    lr: float
    epochs: float
    min_steps: int
    ema: float | None = None
    weight_decay: float | None = None
    use_held_out: bool | None = None
    label_smoothing: float | None = None
    cutmix: float | None = None
    distill: float | None = None
    temperature: float | None = None


def _trainings(images: int, has_parent: bool) -> tuple[ProposedTraining, ProposedTraining]:
    """How a parent is trained, and how networks that begin with its transplants are, by the number of images."""
    batch = 64 if images >= FEW else 32 if images >= 128 else 16
    few, rate = images < SOME, 0.1 * batch / 64  # the rate in proportion to the batch: Goyal et al., 2017
    tuned = ProposedTraining(batch_size=batch, lr=rate if few else 0.02, epochs=10.0, min_steps=600, ema=0.99)
    fresh = ProposedTraining(batch_size=batch, lr=rate, epochs=40.0 if few else 30.0, min_steps=2000, weight_decay=5e-4)
    taught = replace(tuned, use_held_out=True, label_smoothing=0.0, distill=0.9, temperature=2.0)
    if few:  # these are soon known by heart; mixed ones take longer
        taught = replace(taught, min_steps=2400, cutmix=1.0)
    return tuned if has_parent else fresh, taught


def _training(training: ProposedTraining) -> str:
    values = {key: value for key, value in asdict(training).items() if value is not None}
    lines = [(_key(key, value), NOTES.get(key)) for key, value in values.items()]
    return "\n".join(f"{line:26}# {note}" if note else line for line, note in lines)


def _key(key: str, value: Any) -> str:
    """A line of TOML, a list's, too."""
    if isinstance(value, list):
        return f"{key} = [{', '.join(map(str, value))}]"
    return tomli_w.dumps({key: value}).strip()


def _about(survey: "Survey") -> str:
    least, middle, most = survey.shorter_sides
    return (
        f"{sum(survey.train) + sum(survey.test):,} pictures of {len(survey.classes)} classes, {survey.channels}, "
        f"{least} to {most} pixels at the shorter side (half of them {middle} or more)."
    )


def _split(survey: "Survey") -> str:
    if survey.test_share is None:
        return f"# {sum(survey.test):,} pictures of its test part are looked at once, at the end.\n"
    return (
        f"# It has no test part: {survey.test_share:.0%} of every class are held out, {sum(survey.test):,} pictures, "
        "always the same ones.\n"
    )


def _left_out(survey: "Survey") -> str:
    return f"# {_left_out_of(survey)}; without unreadable=skip a run refuses all.\n" if survey.unreadable else ""


def _left_out_of(survey: "Survey") -> str:
    count = len(survey.unreadable)
    return (
        "1 picture that can't be read is left out"
        if count == 1
        else f"{count:,} pictures that can't be read are left out"
    )


@dataclass(frozen=True, slots=True)
class Proposal:
    """A recipe that was written for some pictures, and what was seen of them.

    Args:
        path: of the recipe.
        side: of the images in the networks, in pixels.
    """

    path: Path
    recipe: Recipe
    survey: "Survey"
    side: int

    @property
    def message(self) -> str:
        """The pictures, and what is done with them, in lines."""
        survey = self.survey
        least, middle, most = survey.shorter_sides
        fewest, largest = min(survey.train), max(survey.train)
        a_class = f"{fewest:,} to {largest:,}" if fewest < largest else f"{fewest:,}"
        sides = f"from {least} to {most} pixels, the middle one {middle}" if least < most else f"of {least} pixels"
        lines = [
            f"{sum(survey.train):,} training and {sum(survey.test):,} test pictures of {len(survey.classes)} classes, "
            f"{a_class} training pictures a class",
            f"{survey.channels}; shorter sides {sides}; networks see {self.side}",
        ]
        if survey.test_share:
            lines.append(f"no test part: {survey.test_share:.0%} of every class are held out, always the same pictures")
        lines.append(f"{self.path}: `ghostnas run {quote(str(self.path))}` does the rest")
        return "\n".join(lines)

    @property
    def warnings(self) -> list[str]:
        """What may come in the way."""
        survey, warnings = self.survey, []
        if survey.unreadable:
            named = "; ".join(list(survey.unreadable.values())[:SHOWN])
            warnings.append(f"{_left_out_of(survey)} (unreadable=skip): {named}")
        if survey.unused:
            warnings.append(f"not used, since another part is there to test on: {', '.join(survey.unused)}")
        untested = [name for name, n in zip(survey.classes, survey.test, strict=True) if not n]
        if untested:
            warnings.append(f"no test pictures: {_some(untested)}")
        few = [f"{name} ({n})" for name, n in zip(survey.classes, survey.train, strict=True) if n < FEW_OF_A_CLASS]
        if few:
            warnings.append(f"fewer than {FEW_OF_A_CLASS} training pictures: {_some(few)}")
        if survey.shorter_sides[1] < self.side:
            warnings.append(f"half of the pictures are smaller than {self.side} pixels and are enlarged")
        space, budget = self.recipe.search_space, self.recipe.search.flops_budget
        narrowest = cost(space.uniform(space.widths[0]), space.num_classes, space.in_chs).macs
        if narrowest > max(window.high for window in self.recipe.windows["macs"].values()):
            warnings.append(
                f"the narrowest GhostNet of {self.side} pixels has {format_count(narrowest)} multiply-adds, above the "
                f"budget of {budget}: few networks are inside it; a smaller --size or a larger budget leaves a choice"
            )
        return warnings

    def to_json(self) -> JsonObject:
        """What was seen and written."""
        survey = self.survey
        return {
            "recipe": str(self.path),
            "data": survey.name,
            "classes": {
                name: {"train": train, "test": test}
                for name, train, test in zip(survey.classes, survey.train, survey.test, strict=True)
            },
            "channels": survey.channels,
            "shorter_sides": dict(zip(("least", "median", "most"), survey.shorter_sides, strict=True)),
            "unreadable": survey.unreadable,
        }


def _some(classes: list[str]) -> str:
    """The first of some classes, and how many more there are."""
    more = f" and {len(classes) - SHOWN} more classes" if len(classes) > SHOWN else ""
    return ", ".join(classes[:SHOWN]) + more


def recipe_path(data: str | Path, out: Path | None, budget: str | None) -> Path:
    """Where the recipe for pictures goes: a new file, by default named after their folder. What can be wrong is said
    before any picture is read.

    Raises:
        UserError, SpaceError: there is no such folder, the file can't be written or is there already, or the budget is
            none.
    """
    source = image_files(str(data))
    folder = source.folder if source else Path(data).expanduser()
    if not folder.is_dir():
        raise UserError(f"init looks at a folder of pictures; there is no folder {str(folder)!r}")
    try:
        str(folder.resolve()).encode()
    except UnicodeEncodeError:
        raise UserError(f"a recipe names its pictures in UTF-8, in which no folder is called {str(folder)!r}") from None
    path = out or Path(f"{folder.resolve().name}.toml")
    if path.suffix != ".toml":
        raise UserError(f"a recipe's file ends in .toml, not {str(path)!r}")
    if path.exists():
        raise UserError(f"{path} is there already: --out names another file")
    check_writable(path.parent)
    if budget:
        Window.parse(budget)
    return path
