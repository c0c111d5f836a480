"""Training: a resumed one equals an unbroken one to the bit, time boxes end on a learning rate of zero, bad losses are
survived or told."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ghostnet import Supernet, cost
from ghostnet.modules import drop_branch
from ghostnet.weights import WeightsError, load_network
from search.data.datasets import load_data
from search.data.splits import Split
from search.data.transforms import Augment
from search.errors import UserError
from search.files import read_json, write_json
from search.recipes.schema import SupernetTraining, Training
from search.training import loop
from search.training.distillation import alpha, kl
from search.training.distributed import World
from search.training.elastic import even, fair, load_inherited, load_supernet, train_supernet
from search.training.evaluate import SEED, accuracy, recalibrate
from search.training.metadata import read_metadata, space_for
from search.training.retrain import retrain
from search.training.time_box import TimeBox
from spaces.population import sample
from spaces.tables import macs_table

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)
SHORT = SupernetTraining(
    epochs=1, batch_size=32, random=1, drop_rate=0.2, drop_path=0.2, ema=0.9, checkpoint_seconds=0, probes=2
)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=200)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing cleans up."""


def killed_after(steps: int, monkeypatch) -> None:
    """Dies after so many checkpoints."""
    done = []
    original = loop._State.save

    def save(state):
        original(state)
        done.append(1)
        if len(done) == steps:
            raise Killed

    monkeypatch.setattr(loop._State, "save", save)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The weights of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "net"
    train_supernet(SPACE, data, SHORT, folder, device=CPU)
    return load_supernet(folder).state_dict()


@pytest.fixture(scope="module")
def stopped(data, tmp_path_factory):
    """What the same training leaves when it is killed half-way."""
    folder = tmp_path_factory.mktemp("stopped") / "net"
    with pytest.MonkeyPatch.context() as patch:
        killed_after(3, patch)
        with pytest.raises(Killed):
            train_supernet(SPACE, data, SHORT, folder, device=CPU)
    return folder


def test_a_resumed_supernet_equals_an_unbroken_one(data, whole, stopped, tmp_path):
    metadata = train_supernet(SPACE, data, SHORT, shutil.copytree(stopped, tmp_path / "killed"), device=CPU)
    assert metadata.training.steps == 6
    killed = load_supernet(tmp_path / "killed").state_dict()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_resumed_retraining_equals_an_unbroken_one_and_a_finished_one_is_kept(data, tmp_path, monkeypatch):
    config, arch = Training(epochs=1, batch_size=32, drop_rate=0.2, checkpoint_seconds=0), SPACE.smallest
    whole = retrain(arch, data, config, tmp_path / "whole", device=CPU)
    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(Killed):
            retrain(arch, data, config, tmp_path / "killed", device=CPU)
    with pytest.raises(UserError, match="is of another training"):
        retrain(SPACE.largest, data, config, tmp_path / "killed", device=CPU)
    killed = retrain(arch, data, config, tmp_path / "killed", device=CPU)

    def strip(metadata):
        return metadata.model_copy(update={"training": metadata.training.model_copy(update={"seconds": 0.0})})

    assert strip(whole) == strip(killed)
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert retrain(arch, data, config, tmp_path / "whole", device=CPU).training == whole.training


def test_training_learns_and_the_saved_network_is_the_one_tested(data, tmp_path):
    metadata = retrain(SPACE.uniform(0.5), data, Training(epochs=16, batch_size=32), tmp_path / "net", device=CPU)
    assert metadata.test_accuracy > 0.5  # chance is 0.1
    weights = tmp_path / "net" / "weights.safetensors"
    net = load_network(SPACE.uniform(0.5), weights)
    assert (net.num_classes, net.in_chs) == (10, 1)
    assert accuracy(net, data, data.test) == metadata.test_accuracy
    with pytest.raises(WeightsError, match=f"not weights of architecture {SPACE.smallest.id}"):
        load_network(SPACE.smallest, weights)


def test_a_time_box_ends_the_training_with_its_schedule(data, tmp_path, monkeypatch):
    rates = []
    from timm.scheduler import CosineLRScheduler

    original = CosineLRScheduler.step_update

    def spy(self, *args, **kwargs):
        original(self, *args, **kwargs)
        rates.append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(CosineLRScheduler, "step_update", spy)
    config = Training(epochs=100_000, batch_size=32, lr=0.1)
    metadata = retrain(SPACE.smallest, data, config, tmp_path / "net", device=CPU, box=TimeBox(4))
    assert metadata.training.epochs < 1000 and metadata.training.seconds < 30
    assert max(rates) > 0.05 and rates[-1] < 0.02


@pytest.mark.parametrize(("clock_s", "steps"), [(0.0, 20), (1.0, 8), (4.0, 2)])
def test_a_time_box_may_stretch_the_schedule_over_more_steps(data, tmp_path, monkeypatch, clock_s, steps):
    """Five steps of a recipe, four times as many where there is time: the rate falls to zero over those there are."""
    now, rates = [0.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    original = loop._Updates.begin

    def begin(self, at):
        now[0] += clock_s
        original(self, at)
        rates.append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(loop._Updates, "begin", begin)
    config = Training(epochs=1, batch_size=len(data.train) // 5, lr=0.1, warmup_epochs=0)
    box = TimeBox(8.0, stretch=4.0)
    trained = retrain(SPACE.smallest, data, config, tmp_path / "net", device=CPU, box=box).training
    assert (trained.steps, trained.planned_steps) == (steps, 5) and trained.stretched == (steps > 5)
    assert trained.ended == ("schedule" if steps >= 5 else "time box")
    assert rates[0] == 0.1 and sorted(rates, reverse=True) == rates and len(set(rates)) == min(steps, 5)


@pytest.fixture
def killed(data, tmp_path, monkeypatch):
    """Begins a training of so many steps in a time box, and kills it in its ninth step: its arguments, and the rates
    of all steps, those that follow included."""
    original, rates, numbers = loop._Updates.begin, list[float](), itertools.count(1)

    def begin(self, at):
        original(self, at)
        if next(numbers) == 9:
            raise KeyboardInterrupt
        rates.append(self.optimizer.param_groups[0]["lr"])

    def start(steps, stretch):
        monkeypatch.setattr(loop._Updates, "begin", begin)
        batch = len(data.train) // steps
        config = Training(epochs=1, batch_size=batch, lr=0.1, warmup_epochs=0, checkpoint_seconds=0)
        arguments = SPACE.smallest, data, config, tmp_path / "net"
        with pytest.raises(KeyboardInterrupt):
            retrain(*arguments, device=CPU, box=TimeBox(1e6, stretch))
        return arguments, rates

    return start


@pytest.mark.parametrize(
    ("stretch", "steps"),
    [(4.0, 8 + 3), (2.5, 8 + 2), (3.3, 8 + 3)],  # 2, 3.2 and 2.4 of five
)
def test_a_stretched_training_that_goes_on_without_its_time_box_has_the_rest_of_the_recipe(killed, stretch, steps):
    arguments, rates = killed(5, stretch)
    trained = retrain(*arguments, device=CPU).training
    assert (trained.steps, trained.ended) == (steps, "schedule") == (len(rates), "schedule")
    assert sorted(rates, reverse=True) == rates and rates[-1] < 0.02


def test_a_time_box_is_for_what_is_still_to_do(killed, monkeypatch):
    """Eight steps of twenty are done, of which the new box knows nothing but where the schedule stands."""
    arguments, rates = killed(20, 1.0)
    now, original = [1e9], loop._Updates.begin

    def begin(self, at):
        now[0] += 1
        original(self, at)

    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop._Updates, "begin", begin)
    trained = retrain(*arguments, device=CPU, box=TimeBox(6.0)).training
    assert (trained.steps, trained.planned_steps, trained.ended) == (8 + 6, 20, "time box")
    assert sorted(rates, reverse=True) == rates and rates[-1] < 0.01


def test_a_loss_that_stays_infinite_ends_with_a_word_and_one_that_passes_is_skipped(data, tmp_path):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10))
    config = Training(epochs=10, batch_size=20)
    calls = []

    def step(images, labels, rng, bad):
        calls.append(1)
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss = loss * (float("nan") if bad(len(calls)) else 1)
        loss.backward()
        return loss.item()

    arguments = {"identity": {"net": "a linear layer"}, "seed": 0, "device": CPU, "title": "test"}
    done = loop.fit(
        net, data, config, lambda *a: step(*a, lambda k: k % 10 == 0), checkpoint=tmp_path / "a", **arguments
    )
    assert done.skipped_steps == 10 and all(torch.isfinite(p).all() for p in net.parameters())
    calls.clear()
    with pytest.raises(UserError, match="not finite in 20 of 100 steps, at most 10% are passed over"):
        loop.fit(net, data, config, lambda *a: step(*a, lambda k: k % 5 == 0), checkpoint=tmp_path / "c", **arguments)
    with pytest.raises(UserError, match="no finite loss in 20 steps"):
        loop.fit(net, data, config, lambda *a: step(*a, lambda k: True), checkpoint=tmp_path / "b", **arguments)


def test_recalibration_gives_the_statistics_of_the_calibration_split_augmented_as_in_training(data, tmp_path):
    train_supernet(SPACE, data, SHORT, tmp_path / "net", device=CPU)
    evaluate = load_inherited(tmp_path / "net", data)
    arch = SPACE.sample(np.random.default_rng(0))
    net = evaluate.network(arch)
    images = torch.cat(list(Augment(data, SHORT).batches(data.calibration, SEED)))
    with torch.no_grad():
        stem = net.conv_stem(images)
    torch.testing.assert_close(net.bn1.running_mean, stem.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.bn1.running_var, stem.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert evaluate(arch) == evaluate(arch)  # nothing is left behind in the supernet
    before = net.bn1.momentum
    recalibrate(net, data, SHORT)
    assert net.bn1.momentum == before


def test_cards_of_other_things_are_refused(tmp_path):
    with pytest.raises(UserError, match="no finished supernet"):
        read_metadata(tmp_path)
    (tmp_path / "supernet.json").write_text('{"space": 3}')
    with pytest.raises(UserError, match="no supernet's metadata"):
        read_metadata(tmp_path)


def test_norms_see_what_the_supernet_was_trained_on(data, tmp_path):
    """The card says how; one of an earlier version leaves it to the defaults, one with a broken recipe is refused."""
    config = SHORT.model_copy(update={"crop": "none", "erasing": 0.9})
    train_supernet(SPACE, data, config, tmp_path / "net", device=CPU)
    arch = SPACE.smallest
    by_card = load_inherited(tmp_path / "net", data)
    assert by_card.config == config
    mean = by_card.network(arch).bn1.running_mean
    asked = by_card.supernet.extract(arch)
    recalibrate(asked, data, config, arch.resolution)
    torch.testing.assert_close(mean, asked.bn1.running_mean)
    metadata = read_json(tmp_path / "net" / "supernet.json")
    del metadata["config"]
    write_json(tmp_path / "net" / "supernet.json", metadata)
    assert not torch.allclose(load_inherited(tmp_path / "net", data).network(arch).bn1.running_mean, mean)
    write_json(tmp_path / "net" / "supernet.json", metadata | {"config": {"epochs": -1}})
    with pytest.raises(UserError, match="`config` is no supernet's recipe"):
        load_inherited(tmp_path / "net", data)


@pytest.mark.parametrize("damage", ["truncated", "a byte", "empty", "absent"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage, data, whole, stopped, tmp_path, capsys):
    newest = shutil.copytree(stopped, tmp_path / "killed") / "checkpoint.pt"
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    newest.write_bytes({"truncated": content[:middle], "a byte": content, "empty": b"", "absent": b""}[damage])
    if damage == "absent":
        newest.unlink()
    train_supernet(SPACE, data, SHORT, tmp_path / "killed", device=CPU)
    assert ("is damaged" in capsys.readouterr().err) == (damage != "absent")
    killed = load_supernet(tmp_path / "killed").state_dict()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not list((tmp_path / "killed").glob("*checkpoint*"))


def test_averaged_weights_are_the_ones_kept(data, tmp_path):
    config = Training(epochs=1, batch_size=32, ema=0.5)
    net, averages = torch.nn.Linear(256, 10), []

    def step(images, labels, rng):
        averages.append(net.weight.detach().clone())
        loss = torch.nn.functional.cross_entropy(net(images.flatten(1)), labels)
        loss.backward()
        return loss.item()

    about = {"identity": {"net": "a test"}, "seed": 0, "device": CPU, "title": "a test"}
    loop.fit(net, data, config, step, checkpoint=tmp_path / "checkpoint", **about)
    last = averages[-1]
    # An average at decay 0.5 or less lies between the weights before the last step and those after it.
    assert not torch.equal(net.weight, last) and (net.weight - last).norm() < (averages[0] - last).norm()


@pytest.mark.parametrize("images", [200, 48])
def test_parts_of_a_batch_add_up_to_its_mean_gradient(images, data, tmp_path):
    """Without batch statistics and augmentation a batch in two parts is the batch, also one that takes more images than
    there are."""
    data = replace(data, train=Split(data.train.images[:images], data.train.labels[:images]))
    nets = {}
    for accumulate in (1, 2, 4):
        torch.manual_seed(0)
        net = nets[accumulate] = torch.nn.Linear(256, 10)

        def step(images, labels, rng, net=net):
            loss = torch.nn.functional.cross_entropy(net(images.flatten(1)), labels)
            loss.backward()
            return loss.item()

        about = {"identity": {"net": "a test"}, "seed": 0, "device": CPU, "title": "a test"}
        config = Training(epochs=1, batch_size=32 if images > 64 else 64, accumulate=accumulate, crop="none")
        loop.fit(net, data, config, step, checkpoint=tmp_path / str(accumulate), **about)
    for accumulate in (2, 4):
        torch.testing.assert_close(nets[accumulate].weight, nets[1].weight, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="`batch_size` must be a multiple of 6"):
        World(rank=0, size=3).parts(64, 2, 128)


def test_too_few_images_for_the_parts_of_a_batch_are_refused(data, tmp_path):
    few = replace(data, train=Split(data.train.images[:7], data.train.labels[:7]))
    with pytest.raises(UserError, match="7 training images are too few for 4 parts of a batch"):
        retrain(SPACE.smallest, few, Training(epochs=1, accumulate=4), tmp_path / "net", device=CPU)


def test_the_loss_averages_the_finite_ones_alone(data, tmp_path):
    """Where the first steps are skipped, the average begins with the first that counts."""
    net = torch.nn.Linear(256, 10)
    losses = iter([float("nan"), float("inf"), *[4.0] * 18])

    def step(images, labels, rng):
        net(images.flatten(1)).sum().backward()
        return next(losses)

    config = Training(epochs=4, batch_size=40)
    about = {"identity": {"net": "a test"}, "seed": 0, "device": CPU, "title": "a test"}
    assert loop.fit(net, data, config, step, checkpoint=tmp_path / "checkpoint", **about).loss == pytest.approx(4.0)


def test_regularisation_is_on_the_largest_network_only():
    supernet = Supernet(SPACE.bounds, 10, 1, drop_rate=0.5, drop_path=0.5)
    x = torch.randn(16, 1, 16, 16)
    plain = [supernet(x, SPACE.largest) for _ in range(2)]
    regularised = [supernet(x, SPACE.largest, regularise=True) for _ in range(2)]
    assert torch.equal(*plain) and not torch.equal(*regularised)
    supernet.drop_rate = 0.0
    supernet._nets.clear()
    assert not torch.equal(*(supernet(x, SPACE.largest, regularise=True) for _ in range(2)))
    supernet.eval()
    assert torch.equal(supernet(x, SPACE.largest, regularise=True), supernet(x, SPACE.largest))


def test_dropped_branches_keep_the_mean():
    y = torch.ones(40_000, 1, 1, 1)
    torch.manual_seed(0)
    dropped = drop_branch(y, 0.25)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert abs(dropped.mean() - 1) < 6 * (1 / 3 / 40_000) ** 0.5  # six standard errors: once in 5e8


@pytest.mark.parametrize("a", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_alpha_divergence_and_its_gradient_equal_the_definition(a):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    p, q = teacher.softmax(1), student.softmax(1)
    if a == 0:
        defined = (q * (q / p).log()).sum(1)
    elif a == 1:
        defined = (p * (p / q).log()).sum(1)
    else:
        defined = (q * ((p / q) ** a - 1)).sum(1) / (a * (a - 1))
    (expected,) = torch.autograd.grad(defined.mean(), student)
    result = alpha(student, teacher, (a,), clip=float("inf"))
    torch.testing.assert_close(result, defined.mean())
    torch.testing.assert_close(torch.autograd.grad(result, student)[0], expected)
    if a == 1:
        torch.testing.assert_close(kl(student, teacher), result)


def test_alpha_divergence_takes_the_worse_side_and_clips_what_explodes():
    teacher = torch.tensor([[0.0, 0.0], [20.0, 0.0]], dtype=torch.float64)
    student = torch.tensor([[3.0, 0.0], [0.0, 20.0]], dtype=torch.float64, requires_grad=True)
    sides = [alpha(student[:1], teacher[:1], (a,)) for a in (-1.0, 1.0)]
    torch.testing.assert_close(alpha(student[:1], teacher[:1]), max(sides))
    (gradient,) = torch.autograd.grad(alpha(student, teacher), student)
    assert gradient.abs().max() < 5.0


def test_networks_drawn_by_macs_lie_evenly(data):
    rng = np.random.default_rng(0)
    macs = np.array([cost(arch, 10, 1).macs for arch in even(SPACE, 200, rng)])
    uniform = macs_table(SPACE).total(sample(SPACE, rng, 200))
    assert macs.std() > 1.3 * uniform.std()


def test_scalars_are_there_for_tensorboard(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_supernet(SPACE, data, SHORT, tmp_path / "net", device=CPU)
    events = EventAccumulator(str(tmp_path / "net" / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    assert tags == {
        "loss",
        "lr",
        *(f"accuracy/{n}" for n in ("largest", "smallest", "random 1", "random 2", "random 3")),
    }
    assert [event.step for event in events.Scalars("accuracy/largest")] == [3, 6]


def test_a_fair_step_shows_every_choice_equally_often():
    """A code's dead genes settle at their canonical choice, so widths are looked at, which are never dead."""
    widths = [k for k, gene in enumerate(SPACE.genes) if gene.kind == "width"]
    codes = np.array([SPACE.encode(arch) for arch in fair(SPACE, 6, np.random.default_rng(0))])
    for k in widths:
        shown = np.bincount(codes[:, k], minlength=SPACE.choices[k])
        assert shown.sum() == 6 and shown.max() - shown.min() <= 1
