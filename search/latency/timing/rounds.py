"""What is timed when: whole networks first, units by probability, in shuffled rounds, inside a time box, resumable.

A plan is plain data: `items` in order of priority, each with `name`, `kind` (network or unit) and `shape` (batch
first), and `rounds`, `seed`, `threads`. All state is in the rows of the log, so a calibration that was killed goes on
from them and measures nothing twice.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque

import numpy as np

from search.latency.timing.device import machine_state
from search.latency.timing.interference import InterferenceFilter
from search.latency.timing.measurement import take_measurement
from search.latency.timing.scores import pseudo_median, quiet_minima

FEWEST_NETWORKS = 8  # networks to fit on, and to hold out, that are measured whatever the deadline: a table needs them
ATTEMPTS = 6  # at a quiet measurement in one round, before a noisy one is taken
NETWORK_MEASUREMENTS = 3  # to a whole network in each round, since a few of those must correct and judge all the rest
PILOT = 48  # units that tell how long one takes, and what others take that are never timed
FIRST = 16  # of them from the plan's begin, where every kind of layer is
MARGIN = 0.9  # of the time box is planned
EXTRA_ROUNDS = 4
SURE = 0.01  # relative half-width of an item that needs no more measurements
BOOTSTRAPS = 200
SAVE_EVERY_S = 2.0


class Rounds:
    """One calibration.

    Args:
        open_session: item's name -> its session.
        reference: session and input shape of the reference network.
        rows: what the log holds from before.
        append: puts rows on the disk.
        deadline: `time.monotonic()` after which no measurement begins, but for one of each of the fewest networks and
            units that a table needs; None makes every planned round and no other.
        tell: is called with the numbers of measurements made and planned.
    """

    def __init__(self, plan, open_session, reference, rows, append, deadline=None, tell=lambda done, total: None):
        self.plan, self.open_session, self.append, self.deadline, self.tell = plan, open_session, append, deadline, tell
        self.shapes = {item["name"]: item["shape"] for item in plan["items"]}
        self.networks = [item["name"] for item in plan["items"] if item["kind"] == "network"]
        self.units = [item["name"] for item in plan["items"] if item["kind"] == "unit"]
        self.measurements = defaultdict(list)
        self.rounds_plan = None  # how many units and rounds fit
        self.elapsed = 0.0
        for row in rows:
            if "item" in row:
                self.measurements[row["item"]].append(row)
                self.elapsed = max(self.elapsed, row["at_s"])
            elif "settled" in row:
                self.rounds_plan = row["settled"]
        self.done = {(name, row["visit"]) for name, item_rows in self.measurements.items() for row in item_rows}
        probes = [row["reference_ms"] for item_rows in self.measurements.values() for row in item_rows]
        session, shape = reference
        self.filter = InterferenceFilter(session, shape, plan["threads"], probes)
        self.start = time.monotonic() - self.elapsed

    def run(self) -> None:
        """Makes all rounds that fit."""
        with self.filter:
            pilot = pilot_units(self.units)
            if self.deadline is not None:
                few = fewest_networks(self.networks, self.plan["fit_networks"])
                self._turn(0, few, must=True, visits=1, until=self._half_way())
                self._turn(0, pilot, must=True, until=self._half_way())
                # A network takes long to compile: with little time all of them would leave none for the units.
                self._turn(0, self.networks, until=self._half_way())
            else:
                self._turn(0, self.networks)
                self._turn(0, pilot)
            whole = {"units": len(self.units), "rounds": self.plan["rounds"]}
            if self.rounds_plan is None or as_much(self.rounds_plan) < as_much(whole):
                settled = self._plan_rounds(len(pilot))
                if self.rounds_plan is None or as_much(settled) > as_much(self.rounds_plan):  # a longer box, resumed
                    self.rounds_plan = settled
                    self.append([{"settled": settled}])
            units = sorted(set(pilot) | set(self.units[: self.rounds_plan["units"]]))
            self._turn(0, units)
            for turn in range(1, self.rounds_plan["rounds"]):
                self._turn(turn, self.networks + units)
            for turn in range(self.rounds_plan["rounds"], self.rounds_plan["rounds"] + EXTRA_ROUNDS):
                if self.deadline is not None:
                    self._turn(turn, [name for name in self.networks + units if self._unsure(name)])

    def _plan_rounds(self, pilot: int) -> dict:
        """How many units fit into the time box, and how many rounds: rather all units once than some of them more
        often, since what is never timed is only guessed. Of what a box before this one made nothing is left to do."""
        rounds, count = self.plan["rounds"], len(self.units)
        if self.deadline is None:
            return {"units": count, "rounds": rounds}
        unit = np.mean([row["seconds"] for name in self.units for row in self.measurements.get(name, [])] or [0.0])
        measured = [
            sum(row["seconds"] for row in rows) / max(1, len(rows) / NETWORK_MEASUREMENTS)
            for name in self.networks
            if (rows := self.measurements[name])
        ]
        networks = len(self.networks) * np.mean(measured)  # in a round
        left = MARGIN * (self.deadline - time.monotonic())
        before = self.rounds_plan or {"units": 0, "rounds": 1}
        made = before["rounds"] if before["units"] == count else 0  # of rounds of all units
        for fewer in range(rounds, max(made, 1), -1):
            if (fewer - max(made, 1)) * networks + (fewer - made) * count * unit <= left:
                return {"units": count, "rounds": fewer}
        if made:
            return before
        fit = int(left / max(unit, 1e-9))
        return {"units": min(max(fit, pilot), count), "rounds": 1}

    def _half_way(self):
        return (time.monotonic() + self.deadline) / 2

    def _turn(self, turn: int, names, must: bool = False, visits: int = NETWORK_MEASUREMENTS, until=None) -> None:
        """The measurements of one round, in a new order each time, so that a slow minute touches all alike.

        Args:
            must: whatever the deadline.
            visits: to each network.
            until: an earlier deadline; of what must be, for another try at what was noisy.
        """
        whole = set(self.networks)
        planned = [
            (name, turn * per + k)
            for name in names
            for per in (NETWORK_MEASUREMENTS if name in whole else 1,)
            for k in range(min(per, visits))
        ]
        planned = [each for each in planned if each not in self.done]
        order = np.random.default_rng([self.plan["seed"], 1, turn]).permutation(len(planned))
        queue = deque((planned[k][0], planned[k][1], ATTEMPTS) for k in order)
        unsaved, saved = [{"turn": turn, **machine_state()}], time.monotonic()
        while queue and (must or not self._late(until)):
            name, number, attempts = queue.popleft()
            started = time.monotonic()
            row = take_measurement(self.filter, self.open_session(name), self.shapes[name])
            if attempts > 1 and not self.filter.is_quiet(row["reference_ms"]) and not self._late(until):
                queue.append((name, number, attempts - 1))  # once more, when the rest has been seen
                continue
            at = time.monotonic()
            row = {
                "item": name,
                "visit": number,
                "at_s": round(at - self.start, 3),
                "seconds": round(at - started, 4),
                **row,
            }
            self.measurements[name].append(row)
            self.done.add((name, number))
            unsaved.append(row)
            if at - saved > SAVE_EVERY_S:
                self.append(unsaved)
                unsaved, saved = [], at
            self.tell(len(self.done), self._planned())
        self.append(unsaved)

    def _planned(self) -> int:
        """How many measurements there will be at most: all rounds', or as many as the time box holds at this pace."""
        rounds_plan = self.rounds_plan or {"units": len(self.units), "rounds": self.plan["rounds"]}
        a_round = NETWORK_MEASUREMENTS * len(self.networks) + rounds_plan["units"]
        if self.deadline is None:
            return rounds_plan["rounds"] * a_round
        now, done = time.monotonic(), len(self.done)
        fitting = done + int(max(self.deadline - now, 0) * done / (now - self.start))
        return max(done, min((rounds_plan["rounds"] + EXTRA_ROUNDS) * a_round, fitting))

    def _late(self, until=None) -> bool:
        ends = [each for each in (self.deadline, until) if each is not None]
        return bool(ends) and time.monotonic() > min(ends)

    def _unsure(self, name: str) -> bool:
        timings = [(row["min_ms"], row["reference_ms"]) for row in self.measurements[name]]
        low, high = interval(quiet_minima(timings, self.filter.quiet_ms))
        return not high - low <= SURE * (high + low)


def as_much(rounds_plan: dict) -> tuple:
    """By which of two plans has more: rather all units once than some of them more often."""
    return rounds_plan["units"], rounds_plan["rounds"]


def fewest_networks(networks: list, fit: int) -> list:
    """The networks measured in any case, evenly from those to fit on and from those held out; all where few."""
    chosen = []
    for part in (networks[:fit], networks[fit:]):
        count = min(FEWEST_NETWORKS, len(part))
        chosen += [part[k * len(part) // count] for k in range(count)]
    return chosen


def pilot_units(units: list) -> list:
    """The units measured in any case: the first ones, and others evenly from the rest; `PILOT` of them, or all."""
    rest = units[FIRST:]
    count = min(PILOT - FIRST, len(rest))
    return units[:FIRST] + [rest[k * len(rest) // count] for k in range(count)]


def interval(minima_ms) -> tuple:
    """95 % bootstrap interval of an item's score over its measurements, in milliseconds; not-a-number from one
    measurement."""
    if len(minima_ms) < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(0).integers(len(minima_ms), size=(BOOTSTRAPS, len(minima_ms)))
    scores = pseudo_median(np.asarray(minima_ms, dtype=float)[picks])
    return float(np.percentile(scores, 2.5)), float(np.percentile(scores, 97.5))
