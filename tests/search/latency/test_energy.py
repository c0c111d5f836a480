"""Energy by counters that stand in for the system's: every run takes a known number of joules."""

import os

import pytest

from ghostnet import GhostNet
from search.latency import energy
from search.latency.energy import Battery, Rapl, find_counter, measure_energy
from search.latency.runtimes import runtime
from search.pipeline.stages import energy_figures
from tests.helpers import small_arch


class Device:
    """A stand-in for `/sys`, a clock, and a network whose runs move both."""

    def __init__(self, root, run_uj=2_000, run_s=0.002):
        self.root, self.run_uj, self.run_s, self.now, self.runs = root, run_uj, run_s, 0.0, 0
        self.zones, self.batteries = [], []

    def write(self, place, **files):
        folder = self.root / "class" / place
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_text(f"{content}\n")
        return folder

    def zone(self, number, name, first=0, span=10**12, share=1, kind="intel-rapl"):
        folder = self.write(f"powercap/{kind}:{number}", name=name, energy_uj=first, max_energy_range_uj=span)
        self.zones.append((folder / "energy_uj", span, share))

    def battery(self, status="Discharging", energy_uwh=50_000_000, step_uwh=10):
        folder = self.write("power_supply/BAT0", type="Battery", status=status, energy_now=energy_uwh)
        self.batteries.append((folder / "energy_now", energy_uwh, step_uwh))

    def once(self):
        self.runs, self.now = self.runs + 1, self.now + self.run_s
        for file, span, share in self.zones:
            file.write_text(f"{(int(file.read_text()) + int(share * self.run_uj)) % span}\n")
        for file, first, step in self.batteries:  # moves in steps only
            taken = self.runs * self.run_uj / 3600
            file.write_text(f"{int(first - taken // step * step)}\n")

    def clock(self):
        return self.now

    def measure(self, **settings):
        counter, why = find_counter(self.root)
        assert counter is not None, why
        return measure_energy(self.once, counter, clock=self.clock, **settings)


def test_every_run_takes_the_joules_that_its_counter_counts(tmp_path):
    device = Device(tmp_path, run_uj=1_500)
    device.zone(0, "package-0", first=7)
    energy = device.measure(repeats=4, seconds=0.5)
    assert energy.joules == pytest.approx(1.5e-3) and energy.error == pytest.approx(0, abs=1e-12)
    assert device.runs * device.run_s >= 4 * 0.5


def test_two_packages_and_memory_add_up_and_what_is_inside_another_is_not_counted_twice(tmp_path):
    device = Device(tmp_path)
    device.zone("0", "package-0")
    device.zone("1", "package-1", share=0.5)
    device.zone("0:0", "core", share=100)  # inside package-0
    device.zone("0:1", "dram", share=0.25)
    device.zone("2", "psys", share=100)  # has all of them
    device.zone("0", "package-0", share=100, kind="intel-rapl-mmio")  # package-0 again
    assert device.measure(seconds=0.1).joules == pytest.approx(1.75 * 2e-3)


@pytest.mark.parametrize("first", [0, 99_000])
def test_a_counter_that_begins_again_at_zero_goes_on(tmp_path, first):
    device = Device(tmp_path)
    device.zone(0, "package-0", first=first, span=100_000)  # fifty runs
    energy = device.measure(repeats=3, seconds=0.5)  # two hundred and more
    assert energy.joules == pytest.approx(2e-3) and energy.error == pytest.approx(0, abs=1e-12)


def test_repeats_that_differ_have_a_standard_error(tmp_path):
    device, costs = Device(tmp_path), [1_000, 3_000, 5_000, 7_000]
    device.zone(0, "package-0")

    def once():
        device.run_uj = costs[min(int(device.now // 1.1), 3)]
        device.once()

    counter, _ = find_counter(tmp_path)
    energy = measure_energy(once, counter, repeats=4, seconds=1.1, clock=device.clock)
    spread = (sum((c - 4_000) ** 2 for c in costs) / 3) ** 0.5 * 1e-6
    assert energy.joules == pytest.approx(4e-3, rel=0.05) and energy.error == pytest.approx(spread / 2, rel=0.1)


def test_a_battery_is_measured_from_step_to_step(tmp_path):
    device = Device(tmp_path)
    device.battery(step_uwh=100)  # 0.36 J, 180 runs
    for _ in range(90):  # half a step
        device.once()
    energy = device.measure(repeats=2, seconds=1.0)
    assert isinstance(find_counter(tmp_path)[0], Battery)
    assert energy.joules == pytest.approx(2e-3, rel=0.02)  # to a look at the counter, five runs of five hundred


def test_rapl_comes_before_a_battery(tmp_path):
    device = Device(tmp_path)
    device.battery()
    device.zone(0, "package-0")
    assert isinstance(find_counter(tmp_path)[0], Rapl)


def test_where_there_is_none_one_line_says_so(tmp_path):
    counter, why = find_counter(tmp_path)
    assert counter is None and "has no counter" in why and "\n" not in why


@pytest.mark.parametrize("status", ["Charging", "Full"])
def test_a_battery_that_is_not_discharged_is_not_read(tmp_path, status):
    Device(tmp_path).battery(status)
    counter, why = find_counter(tmp_path)
    assert counter is None and status in why


def test_other_supplies_and_batteries_without_a_counter_of_energy_are_left_alone(tmp_path):
    device = Device(tmp_path)
    device.write("power_supply/AC", type="Mains", online=1)
    device.write("power_supply/BAT1", type="Battery", status="Discharging", charge_now=5)
    assert find_counter(tmp_path)[0] is None


def test_a_counter_that_only_root_may_read_is_left_out_with_its_name(tmp_path, monkeypatch):
    device = Device(tmp_path)
    device.zone(0, "package-0")
    file = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    file.chmod(0)
    if os.access(file, os.R_OK):  # for root
        read = type(file).read_text

        def denied(self, *given, **named):
            if self == file:
                raise PermissionError(13, "Permission denied", str(file))
            return read(self, *given, **named)

        monkeypatch.setattr(type(file), "read_text", denied)
    counter, why = find_counter(tmp_path)
    assert counter is None and "may not be read" in why and str(file) in why
    monkeypatch.undo()
    device.battery()  # the next best
    file.chmod(0o600)
    file.write_text("no number")
    assert isinstance(find_counter(tmp_path)[0], Battery)


def test_a_counter_that_stands_still_or_goes_gives_nothing(tmp_path):
    device = Device(tmp_path, run_uj=0, run_s=0.05)
    device.zone(0, "package-0")
    assert device.measure(seconds=0.1) is None
    counter, _ = find_counter(tmp_path)
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").unlink()
    assert measure_energy(device.once, counter, clock=device.clock) is None


def test_a_battery_that_is_charged_meanwhile_gives_nothing(tmp_path):
    device = Device(tmp_path, run_uj=-2_000)
    device.battery()
    assert device.measure(seconds=0.1) is None


def test_trained_networks_get_figures_only_where_a_counter_counts_them(tmp_path, monkeypatch, capsys):
    device, run = Device(tmp_path / "sys"), runtime("torch-cpu", 1)
    networks = {"A": (GhostNet(small_arch(), 5).eval(), (3, 15, 15))}
    none = energy_figures(run, networks, 1, sys=device.root)
    said = capsys.readouterr().err
    assert none.counter is None and none.networks == {} and said.count("\n") == 1 and none.why_not in said
    device.zone(0, "package-0")
    monkeypatch.setattr(energy, "SECONDS", 0.02)
    timer = type(run.load(run.compile(*networks["A"]))).timer

    def counted(session, images):
        once = timer(session, images)
        return lambda: (once(), device.once())

    monkeypatch.setattr(type(run.load(run.compile(*networks["A"]))), "timer", counted)
    figures = energy_figures(run, networks, 1, sys=device.root)
    assert figures.counter == "RAPL (package-0)" and figures.why_not is None
    assert figures.networks["A"].joules == pytest.approx(2e-3)
    on_gpu = type("OnGpu", (), {"name": "torch-cuda"})()
    assert "GPU" in energy_figures(on_gpu, networks, 1, sys=device.root).why_not
