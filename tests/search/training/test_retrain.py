"""Full training: recipes, augmentations, teachers, inherited weights, several seeds; resumed to the bit."""

import itertools
import json
import random
import signal
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ghostnet import GhostNet, weights
from ghostnet.weights import load_network
from search.accuracy.short_training import ShortTraining
from search.data.datasets import SplitSizes, load_data
from search.data.generators import temporary_seed
from search.data.transforms import Augment
from search.errors import UserError
from search.pipeline.step_times import StepTimes
from search.recipes.schema import ParentTraining, SupernetTraining, Training, load_retraining
from search.training import loop
from search.training import teacher as teachers
from search.training.checkpoint import CHECKPOINT
from search.training.elastic import load_inherited, train_supernet
from search.training.initial_weights import inherit
from search.training.loop import autocast_dtype
from search.training.losses import Loss
from search.training.metadata import space_for
from search.training.mixing import Mixing
from search.training.optimizer import create_optimizer, create_schedule
from search.training.records import metadata_of_weights
from search.training.retrain import retrain
from tests.helpers import randomise
from tests.search.command_line import ghostnas
from tests.search.training.test_elastic import Killed, killed_after

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)
EVERYTHING = Training(
    epochs=1,
    batch_size=32,
    optimizer="rmsproptf",
    lr=0.003,
    eps=0.001,
    schedule="step",
    drop_path=0.2,
    drop_rate=0.2,
    ema=0.9,
    rand_augment="rand-m9-mstd0.5",
    erasing=0.3,
    mixup=0.2,
    cutmix=1.0,
    amp="bf16",
    checkpoint_seconds=0,
)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=160)


@pytest.fixture(scope="module")
def supernet(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supernet") / "net"
    train_supernet(SPACE, data, SupernetTraining(epochs=1, batch_size=32, random=1), folder, device=CPU)
    return folder


def test_a_training_with_everything_on_resumes_to_the_bit(data, supernet, tmp_path, monkeypatch):
    options = {"device": CPU, "init": supernet, "teacher": f"supernet:{supernet}"}
    whole = retrain(SPACE.smallest, data, EVERYTHING, tmp_path / "whole", **options)
    random.seed(99)  # what others do with the global generators changes nothing
    np.random.seed(99)  # noqa: NPY002
    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(Killed):
            retrain(SPACE.smallest, data, EVERYTHING, tmp_path / "killed", **options)
    with pytest.raises(UserError, match="is of another training"):
        retrain(SPACE.smallest, data, EVERYTHING, tmp_path / "killed", device=CPU, init=supernet)
    killed = retrain(SPACE.smallest, data, EVERYTHING, tmp_path / "killed", **options)
    assert whole.test_accuracy == killed.test_accuracy
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture
def interruptible():
    """Ctrl-C as Python has it; what is started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_a_training_after_its_step_and_what_was_trained_is_kept(data, tmp_path, monkeypatch, presses):
    """Long before the next checkpoint is due; in the middle of a step, whose end is waited for. A second Ctrl-C ends it
    at once."""
    config = Training(epochs=1, batch_size=32, momentum=0.9, checkpoint_seconds=3600)
    whole = retrain(SPACE.smallest, data, config, tmp_path / "whole", device=CPU)
    with monkeypatch.context() as patch:
        backward, steps = loop._Updates.backward, itertools.count(1)

        def interrupted(self, *arguments):
            if next(steps) == 2:
                for _ in range(presses):
                    signal.raise_signal(signal.SIGINT)
            return backward(self, *arguments)

        patch.setattr(loop._Updates, "backward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            retrain(SPACE.smallest, data, config, tmp_path / "stopped", device=CPU)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (tmp_path / "stopped" / CHECKPOINT).exists() == (presses == 1)
    with monkeypatch.context() as patch:
        backward, steps = loop._Updates.backward, itertools.count(1)
        patch.setattr(loop._Updates, "backward", lambda self, *arguments: (next(steps), backward(self, *arguments))[1])
        stopped = retrain(SPACE.smallest, data, config, tmp_path / "stopped", device=CPU)
    assert next(steps) - 1 == whole.training.steps - 2 * (presses == 1)  # the rest, nothing twice
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes() and stopped.test_accuracy == whole.test_accuracy


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsproptf", "lamb"])
def test_every_optimizer_takes_its_settings_and_spares_norms_and_biases(optimizer):
    net = GhostNet(SPACE.smallest, 10, 1)
    eps = None if optimizer == "sgd" else 0.002
    config = Training(epochs=1, optimizer=optimizer, lr=0.01, weight_decay=0.5, eps=eps)
    created = create_optimizer(net, config)
    assert optimizer in type(created).__name__.lower()
    for group in created.param_groups:
        assert group["weight_decay"] == (0.5 if all(p.ndim > 1 for p in group["params"]) else 0)
        assert group["lr"] == 0.01 and (optimizer == "sgd" or group["eps"] == 0.002)
    assert sum(len(g["params"]) for g in created.param_groups) == len(list(net.parameters()))


def test_schedules_follow_their_formulas():
    def rates(config: Training, total: int, per_epoch: int) -> list[float]:
        created = create_optimizer(torch.nn.Linear(2, 2), config)
        schedule = create_schedule(created, config, total, per_epoch)
        result = []
        for k in range(total):
            schedule.step_update(k)
            result.append(created.param_groups[0]["lr"])
        return result

    step = rates(Training(epochs=10, lr=1.0, schedule="step", decay_epochs=2.5, decay_rate=0.5, warmup_epochs=1), 40, 4)
    assert step[:4] == pytest.approx([0.01 + k * 0.99 / 4 for k in range(4)])
    assert step[4:] == pytest.approx([0.5 ** (k // 10) for k in range(4, 40)])
    cosine = rates(Training(epochs=10, lr=1.0, warmup_epochs=1), 40, 4)
    assert cosine[4:] == pytest.approx([0.5 * (1 + np.cos(np.pi * k / 40)) for k in range(4, 40)])
    for schedule in ("cosine", "step"):  # stretched as a whole: as if the epochs were longer
        few = Training(epochs=10, lr=1.0, schedule=schedule, min_steps=120)
        assert few.steps(4) == few.steps(12) == 120 and few.steps(13) == 130
        assert rates(few, 120, 4) == rates(Training(epochs=10, lr=1.0, schedule=schedule), 120, 12)


def test_erasing_takes_a_rectangle_of_each_image(data):
    images = data.train.images[:16]
    augment = Augment(data, Training(epochs=1, erasing=0.999))
    plain = Augment(data, Training(epochs=1))
    erased = augment(images, 5)
    assert torch.equal(erased, augment(images, 5))
    share = (erased != plain(images, 5)).float().mean()
    assert 0.02 < share < 1 / 3 + 0.02  # a rectangle of 2 % to a third of each image


def test_a_temporary_seed_leaves_global_generators_alone():
    def state() -> tuple:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    def values() -> tuple:
        with temporary_seed(3):
            return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    before = state()
    assert values() == values() and state() == before


def test_mixed_images_and_labels_are_the_same_mix_of_pairs(data):
    images, labels = data.normalise(data.train.images[:8]), torch.arange(8)
    mix = Mixing(Training(epochs=1, mixup=1.0), data.num_classes)
    mixed, shares = mix(images.clone(), labels, np.random.default_rng(0))
    share = shares[0, 0]
    assert 0 < share < 1 and torch.allclose(shares.sum(1), torch.ones(8))
    torch.testing.assert_close(mixed, images * share + images.flip(0) * (1 - share))
    cut = Mixing(Training(epochs=1, cutmix=1.0), data.num_classes)
    mixed, shares = cut(images.clone(), labels, np.random.default_rng(1))
    same = ((mixed == images) | (mixed == images.flip(0))).all()
    kept = (mixed == images).flatten(1).float().mean(1)
    assert same and (kept >= shares[range(8), range(8)] - 1e-6).all()  # equal pixels count as kept, too
    with pytest.raises(UserError, match="mixup and cutmix mix pairs"):
        Mixing(Training(epochs=1, mixup=1.0, batch_size=32), data.num_classes, processes=3)


def test_a_teachers_part_of_the_loss_is_the_divergence_from_it(data):
    logits, images = torch.randn(4, 10), torch.zeros(4, 1, 16, 16)
    theirs, labels = torch.randn(4, 10), torch.arange(4)
    config = Training(epochs=1, distill=0.3, temperature=2.0, label_smoothing=0.0)
    result = Loss(config, lambda x: theirs)(logits, labels, images)
    p, q = (theirs / 2).softmax(1), (logits / 2).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean() * 4
    torch.testing.assert_close(result, 0.7 * F.cross_entropy(logits, labels) + 0.3 * divergence)


def test_teachers_see_images_as_they_were_taught_to(data, supernet, tmp_path):
    images = data.normalise(data.train.images[:4])
    largest = teachers.load_teacher(f"supernet:{supernet}", data, CPU)
    evaluate = load_inherited(supernet, data)
    with torch.no_grad():
        torch.testing.assert_close(largest(images), evaluate.network(SPACE.largest).eval()(images))
    arch = SPACE.smallest
    net = randomise(GhostNet(arch, 10, 1)).eval()
    from search.export.timm_config import timm_config
    from search.files import write_json, write_text

    write_json(tmp_path / "config.json", timm_config(net, mean=[0.5], std=[0.25]))
    weights.save_weights(net, tmp_path / "model.safetensors")
    weights.save_weights(net, tmp_path / "weights.safetensors")
    write_text(tmp_path / "arch.json", arch.to_json())
    theirs = (data.train.images[:4].float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        expected = net(theirs), net(images)
    near = {"rtol": 1e-4, "atol": 1e-3}  # of logits of tens; the images are scaled twice
    torch.testing.assert_close(
        teachers.load_teacher(f"timm:local-dir:{tmp_path}", data, CPU)(images), expected[0], **near
    )
    for _ in ("a network's folder", "one for the Hub"):
        torch.testing.assert_close(teachers.load_teacher(f"network:{tmp_path}", data, CPU)(images), expected[0], **near)
        (tmp_path / "weights.safetensors").unlink(missing_ok=True)
    (tmp_path / "config.json").unlink()  # nobody knows
    torch.testing.assert_close(teachers.load_teacher(f"network:{tmp_path}", data, CPU)(images), expected[1], **near)
    begun = GhostNet(arch, 10, 1).eval()
    inherit(begun, arch, tmp_path, data)
    with torch.no_grad():
        assert torch.equal(begun(images), net(images))
    with pytest.raises(UserError, match="timm has no teacher 'coffee'"):
        teachers.load_teacher("timm:coffee", data, CPU)
    for name in ("coffee", "network:", "network:/no/such"):
        with pytest.raises(UserError, match="teacher"):
            teachers.load_teacher(name, data, CPU)


def asked(monkeypatch):
    """Counts how often a teacher's network runs."""
    runs = []
    ask = teachers.FrozenTeacher._ask
    monkeypatch.setattr(teachers.FrozenTeacher, "_ask", lambda self, images: runs.append(1) or ask(self, images))
    teachers.answers_of.cache_clear()
    return runs


def test_a_teacher_is_asked_once_for_what_it_was_shown_before(data, supernet, monkeypatch):
    runs = asked(monkeypatch)
    images = data.normalise(data.train.images[:6])
    first = teachers.load_teacher(f"supernet:{supernet}", data, CPU)
    answer = first(images[:4])
    again = teachers.load_teacher(f"supernet:{supernet}", data, CPU)
    assert torch.equal(again(images[:4].clone()), answer) and len(runs) == 1
    answer.zero_()  # what was given out is not what is kept
    assert again(images[:4]).any() and len(runs) == 1
    assert not torch.equal(again(images[2:6]), again(images[:4])) and len(runs) == 2
    assert len(again(images[:2])) == 2 and len(runs) == 3  # the beginning of what is known
    another = teachers.FrozenTeacher(randomise(GhostNet(SPACE.smallest, 10, 1)), None, data.mean, data.std, data, CPU)
    assert not torch.equal(another(images[:4]), again._ask(images[:4]))
    few = teachers.Answers(memory=3 * 10 * 4)
    shown = []
    for _ in range(2):
        for part in images.split(2):
            few(lambda images: shown.append(images) or images.flatten(1)[:, :10].clone(), part)
    assert len(shown) == 5  # one answer of two images is kept, the other two are asked for again


def test_a_teachers_answers_in_another_precision_are_others(data, supernet):
    teacher = teachers.load_teacher(f"supernet:{supernet}", data, CPU)
    images = data.normalise(data.search.images[:4])
    teachers.answers_of.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = teacher(images)
    exact = teacher(images)
    assert not torch.equal(exact, rounded)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher(images), rounded)


def test_networks_that_share_a_teachers_answers_are_those_that_do_not(data, supernet, tmp_path, monkeypatch):
    runs = asked(monkeypatch)
    config = Training(epochs=0.1, batch_size=32, distill=0.5)
    for name, arch in {"one": SPACE.smallest, "two": SPACE.largest}.items():
        retrain(arch, data, config, tmp_path / name, device=CPU, teacher=f"supernet:{supernet}")
    once = len(runs)
    assert once == config.steps(len(data.train) // 32)  # the second network asked for nothing
    teachers.answers_of.cache_clear()
    retrain(SPACE.largest, data, config, tmp_path / "alone", device=CPU, teacher=f"supernet:{supernet}")
    assert len(runs) == 2 * once
    assert (tmp_path / "alone" / "weights.safetensors").read_bytes() == (
        tmp_path / "two" / "weights.safetensors"
    ).read_bytes()


def test_inherited_weights_are_the_supernets_slice(data, supernet, tmp_path):
    arch = SPACE.sample(np.random.default_rng(1))
    config = Training(epochs=0.01, batch_size=32, lr=1e-12, weight_decay=0.0, warmup_epochs=0)
    retrain(arch, data, config, tmp_path / "net", device=CPU, init=supernet)
    inherited = load_inherited(supernet, data).network(arch)
    trained = load_network(arch, tmp_path / "net/weights.safetensors")
    for (name, mine), theirs in zip(trained.named_parameters(), inherited.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)
    with pytest.raises(UserError, match="has no weights to begin with"):
        retrain(arch, data, config, tmp_path / "other", device=CPU, init=tmp_path)
    with pytest.raises(UserError, match="has no architecture"):
        retrain(replace(arch, head_chs=77), data, config, tmp_path / "x", device=CPU, init=supernet)
    with pytest.raises(ValueError, match="not weights of architecture"):
        retrain(SPACE.largest, data, config, tmp_path / "y", device=CPU, init=tmp_path / "net")


@pytest.mark.parametrize("amp", ["fp16", "bf16"])
def test_half_precision_trains(amp, data, tmp_path):
    config = Training(epochs=2, batch_size=32, lr=0.05, amp=amp)
    metadata = retrain(SPACE.uniform(0.25), data, config, tmp_path / "net", device=CPU)
    assert metadata.training.loss < 2.6 and metadata.training.skipped_steps < 5
    net = load_network(SPACE.uniform(0.25), tmp_path / "net/weights.safetensors")
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in net.parameters())


def test_precision_by_device():
    assert autocast_dtype(Training(epochs=1), CPU) is None
    assert autocast_dtype(Training(epochs=1), torch.device("cuda")) is torch.bfloat16
    assert autocast_dtype(Training(epochs=1, amp="fp16"), CPU) is torch.float16


def test_recipes_of_full_training_are_what_their_sources_say():
    authors, limit = load_retraining("imagenet")
    assert limit is None
    wanted = {"epochs": 400, "batch_size": 1024, "lr": 0.4, "weight_decay": 4e-5, "warmup_epochs": 5, "drop_rate": 0.2}
    assert {key: getattr(authors, key) for key in wanted} == wanted
    theirs, _ = load_retraining("imagenet-timm")
    assert (theirs.optimizer, theirs.schedule, theirs.eps, theirs.ema) == ("rmsproptf", "step", 0.001, 0.9999)
    # 0.064 falls to the millionth part by the 600th epoch
    assert theirs.lr * theirs.decay_rate ** (theirs.epochs // theirs.decay_epochs) == pytest.approx(6.8e-5, rel=0.02)
    assert load_retraining("cifar10-fast")[0].epochs < load_retraining("cifar10")[0].epochs
    ours = "one of cifar10, cifar10-fast, cifar10-small, digits, finetune, folder, imagenet, imagenet-timm, or"
    with pytest.raises(UserError, match=ours):
        load_retraining("mars")


def test_a_broken_recipe_of_full_training_is_told(tmp_path):
    for text, message in (
        ("[retrain]\nepochs = 1\nrand_augment = 'strong'", "rand_augment"),
        ("[retrain]\nepochs = 1\noptimizer = 'luck'", "optimizer"),
        ("[retrain]\nepochs = 1\nschedule = 'stairs'", "schedule"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(UserError, match=f"recipe bad: retrain.{message}"):
            load_retraining(str(tmp_path / "bad.toml"))
    for key in ({"mixup": 0.2}, {"distill": 0.9}, {"temperature": 2.0}):  # which would do nothing there
        with pytest.raises(ValueError, match="of full training"):
            SupernetTraining(epochs=1, **key)


OWN = """
data = "digits"
space = "digits"
train_images = 192
[search]
flops_budget = "500k"
[supernet]
epochs = 1
[retrain]
epochs = 1
batch_size = 64
warmup_epochs = 0
"""


def test_several_networks_by_several_seeds_are_summed_up(tmp_path):
    """Also side by side through Ray, with the same accuracies; and a GhostNet of any width by the same command."""
    (tmp_path / "own.toml").write_text(OWN)
    (tmp_path / "arch.json").write_text(SPACE.smallest.to_json())
    command = ["retrain", "digits:0.3x", "./arch.json", "--recipe", "own.toml", "--seeds", "0,1"]
    done = ghostnas(*command, "--out", "a", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["networks"]
    assert list(result) == ["digits-0.3x", tmp_path.name]
    for name, row in result.items():
        records = [json.loads((tmp_path / f"a/{name}/seed-{k}/trained.json").read_text()) for k in (0, 1)]
        assert row["test_accuracy"] == [metadata["test_accuracy"] for metadata in records]
        assert row["mean"] == pytest.approx(statistics.mean(row["test_accuracy"]))
        assert row["spread"] == pytest.approx(statistics.stdev(row["test_accuracy"]))
    assert json.loads((tmp_path / "a/summary.json").read_text()) == result
    done = ghostnas(*command, "--out", "b", "--workers", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["networks"] == result
    done = ghostnas(*command, "--out", "b", cwd=tmp_path)
    assert done.returncode == 2 and "is there already" in done.stderr


def test_one_network_on_two_processes(tmp_path):
    (tmp_path / "own.toml").write_text(OWN)
    command = ["retrain", "digits:0.25x", "--recipe", "own.toml", "--json", "--workers", "2", "--out", "together"]
    done = ghostnas(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metadata = json.loads((tmp_path / "together/trained.json").read_text())
    assert json.loads(done.stdout) == metadata and metadata["training"]["epochs"] == 1
    load_network(SPACE.uniform(0.25), tmp_path / "together/weights.safetensors")


def test_image_folders_train_with_augmentations_in_their_workers(tmp_path, monkeypatch):
    from PIL import Image

    import search.data.datasets as data_module

    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 6)):
        for label in ("cat", "dog"):
            (tmp_path / f"images/{part}/{label}").mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"images/{part}/{label}/{k}.png")
    monkeypatch.setattr(data_module, "IN_MEMORY", 100)  # so that it streams
    loaded = load_data(f"imagefolder:{tmp_path / 'images'}", 16)
    config = Training(epochs=1, batch_size=8, rand_augment="rand-m9-mstd0.5", erasing=0.2, mixup=0.2)
    records = [retrain(SPACE.smallest, loaded, config, tmp_path / str(k), device=CPU) for k in range(2)]
    assert records[0].training.loss == records[1].training.loss  # whichever worker drew it
    files = [tmp_path / str(k) / "weights.safetensors" for k in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


BAD = {
    "no teacher": (["--teacher", "coffee"], "a teacher is supernet:FOLDER"),
    "a teacher that is not there": (["--teacher", "supernet:none"], "no folder 'none'"),
    "weights that are not there": (["--init", "none"], "no folder or file none"),
    "seeds that are none": (["--seeds", "0,0"], "seeds are different whole numbers"),
    "seeds in digits of another script": (["--seeds", "0,\u0661"], "seeds are different whole numbers"),
    "an unknown recipe": (["--recipe", "mars"], "a recipe is one of"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, tmp_path):
    arguments, message = BAD[case]
    done = ghostnas("retrain", "digits:0.25x", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and message in done.stderr
    assert not list(tmp_path.iterdir())


def test_held_out_images_are_trained_on_where_the_recipe_says_so_and_nowhere_else(data, tmp_path, monkeypatch):
    sizes = []

    def fit(model, shown, *arguments, **options):
        sizes.append(len(shown.train))
        return whole_fit(model, shown, *arguments, **options)

    whole_fit = loop.fit
    monkeypatch.setattr("search.training.retrain.fit", fit)
    config = Training(epochs=1, batch_size=32, use_held_out=True)
    metadata = retrain(SPACE.smallest, data, config, tmp_path / "net", device=CPU)
    ShortTraining(data, config.shortened(0.5), None, None, 0)(SPACE.smallest)
    assert sizes == [len(data.train) + len(data.calibration) + len(data.search), len(data.train)]
    sizes_of = SplitSizes(len(data.train), len(data.calibration), len(data.search), len(data.test), 10, 1)
    assert metadata.training.planned_steps == StepTimes(sizes_of, CPU).steps(config)[0]
    with pytest.raises(UserError, match="holds another"):
        retrain(SPACE.smallest, data, config.changed(use_held_out=False), tmp_path / "net", device=CPU)
    for kind in (ParentTraining, SupernetTraining):
        with pytest.raises(ValueError, match="whose networks held-out images judge"):
            kind(epochs=1, use_held_out=True)


def test_a_trained_network_is_tuned_for_other_classes_as_long_as_it_needs(data, tmp_path):
    """Its classifier is fresh, and all else begins as it was; steps are those of `min_steps`, and say so."""
    arch = SPACE.smallest
    before = randomise(GhostNet(arch, 7, 1), seed=3)
    weights.save_weights(before, tmp_path / "trained.safetensors")
    config = load_retraining("finetune")[0].model_copy(update={"min_steps": 7, "epochs": 1.0, "lr": 1e-9, "ema": 0.0})
    config = config.model_copy(update={"use_held_out": False})
    metadata = retrain(arch, data, config, tmp_path / "out", device=CPU, init=tmp_path / "trained.safetensors")
    assert (metadata.training.steps, metadata.training.planned_steps) == (7, 7)
    assert metadata.training.epochs == metadata.training.planned_epochs == pytest.approx(7 / 5)
    assert config.changed(epochs=2.0).steps(per_epoch=2) == 4, "who asks for epochs gets them, however few steps"
    after = load_network(arch, tmp_path / "out" / "weights.safetensors")
    assert after.num_classes == 10
    assert metadata_of_weights(tmp_path / "out" / "weights.safetensors") == metadata
    assert metadata_of_weights(tmp_path / "trained.safetensors") is None
    learned = {name: value for name, value in before.named_parameters() if not name.startswith("classifier.")}
    for name, value in learned.items():
        assert torch.allclose(after.get_parameter(name), value, atol=1e-5), name
    with pytest.raises(UserError, match="holds another training"):
        retrain(arch, data, config, tmp_path / "out", device=CPU)
