"""What is timed when: whole networks first, units by probability, in shuffled rounds, inside a time box, resumable.

A plan is plain data: `items` in order of priority, each with `name`, `kind` (network or unit) and `shape` (batch
first), and `rounds`, `seed`, `threads`. All state is in the rows of the log, so a calibration that was killed goes on
from them and measures nothing twice.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque

import numpy as np

from search.latency.ruler.device import condition
from search.latency.ruler.gate import Gate, counted, pseudo_median

ATTEMPTS = 6  # at a calm visit in one round, before a disturbed one is taken for want of better
NETWORK_VISITS = 3  # to a whole network in each round, since a few of those must correct and judge all the rest
PILOT = 48  # units that tell how long one takes, and what others take that are never timed
FIRST = 16  # of them from the plan's begin, where every kind of layer is
MARGIN = 0.9  # of the time box is planned
EXTRA_ROUNDS = 4
SURE = 0.01  # relative half-width of an item that needs no more visits
BOOTSTRAPS = 200
SAVE_EVERY_S = 2.0


class Rounds:
    """One calibration.

    Args:
        open_session: item's name -> its session.
        reference: session and shape of the gate's network.
        rows: what the log holds from before.
        append: puts rows on the disk.
        deadline: `time.monotonic()` after which no visit begins, but for the networks' first ones and a pilot of
            units; None makes every planned round and no other.
        tell: is told how far it is: visits made, visits planned.
    """

    def __init__(self, plan, open_session, reference, rows, append, deadline=None, tell=lambda done, total: None):
        self.plan, self.open_session, self.append, self.deadline, self.tell = plan, open_session, append, deadline, tell
        self.shapes = {item["name"]: item["shape"] for item in plan["items"]}
        self.networks = [item["name"] for item in plan["items"] if item["kind"] == "network"]
        self.units = [item["name"] for item in plan["items"] if item["kind"] == "unit"]
        self.visits = defaultdict(list)
        self.settled = None  # how many units and rounds fit
        self.spent = 0.0
        for row in rows:
            if "item" in row:
                self.visits[row["item"]].append(row)
                self.spent = max(self.spent, row["at_s"])
            elif "settled" in row:
                self.settled = row["settled"]
        self.done = {(name, row["visit"]) for name, made in self.visits.items() for row in made}
        looks = [row["reference_ms"] for made in self.visits.values() for row in made]
        session, shape = reference
        self.gate = Gate(session, shape, plan["threads"], looks)
        self.start = time.monotonic() - self.spent

    def run(self) -> None:
        """Makes all rounds that fit."""
        try:
            pilot = pilot_of(self.units)
            self._turn(0, self.networks, must=True)
            self._turn(0, pilot, must=True)
            if self.settled is None:
                self.settled = self._settle(len(pilot))
                self.append([{"settled": self.settled}])
            units = sorted(set(pilot) | set(self.units[: self.settled["units"]]))
            self._turn(0, units)
            for turn in range(1, self.settled["rounds"]):
                self._turn(turn, self.networks + units)
            for turn in range(self.settled["rounds"], self.settled["rounds"] + EXTRA_ROUNDS):
                if self.deadline is not None:
                    self._turn(turn, [name for name in self.networks + units if self._unsure(name)])
        finally:
            self.gate.close()

    def _settle(self, pilot: int) -> dict:
        """How many units fit into the time box, and how many rounds: rather all units twice than some of them more
        often."""
        rounds, count = self.plan["rounds"], len(self.units)
        if self.deadline is None:
            return {"units": count, "rounds": rounds}
        unit = np.mean([row["seconds"] for name in self.units for row in self.visits.get(name, [])] or [0.0])
        networks = sum(row["seconds"] for name in self.networks for row in self.visits[name])
        left = MARGIN * (self.deadline - time.monotonic())
        for fewer in range(rounds, 2, -1):
            if (fewer - 1) * networks + fewer * count * unit <= left:
                return {"units": count, "rounds": fewer}
        fit = int((left - networks) / (2 * max(unit, 1e-9)))
        return {"units": min(max(fit, pilot), count), "rounds": 2}

    def _turn(self, turn: int, names, must: bool = False) -> None:
        """The visits of one round, in a new order each time, so that a slow minute touches all alike."""
        whole = set(self.networks)
        planned = [
            (name, turn * per + k)
            for name in names
            for per in (NETWORK_VISITS if name in whole else 1,)
            for k in range(per)
        ]
        planned = [each for each in planned if each not in self.done]
        order = np.random.default_rng([self.plan["seed"], 1, turn]).permutation(len(planned))
        queue = deque((planned[k][0], planned[k][1], ATTEMPTS) for k in order)
        unsaved, saved = [{"turn": turn, **condition()}], time.monotonic()
        while queue and (must or not self._late()):
            name, number, attempts = queue.popleft()
            begun = time.monotonic()
            row = self.gate.visit(self.open_session(name), self.shapes[name])
            if attempts > 1 and not self.gate.calm(row["reference_ms"]) and not self._late():
                queue.append((name, number, attempts - 1))  # once more, when the rest has been seen
                continue
            at = time.monotonic()
            row = {
                "item": name,
                "visit": number,
                "at_s": round(at - self.start, 3),
                "seconds": round(at - begun, 4),
                **row,
            }
            self.visits[name].append(row)
            self.done.add((name, number))
            unsaved.append(row)
            if at - saved > SAVE_EVERY_S:
                self.append(unsaved)
                unsaved, saved = [], at
            self.tell(len(self.done), self._planned())
        self.append(unsaved)

    def _planned(self) -> int:
        """How many visits there will be at most: all rounds', or as many as the time box holds at this pace."""
        settled = self.settled or {"units": len(self.units), "rounds": self.plan["rounds"]}
        a_round = NETWORK_VISITS * len(self.networks) + settled["units"]
        if self.deadline is None:
            return settled["rounds"] * a_round
        now, made = time.monotonic(), len(self.done)
        fitting = made + int(max(self.deadline - now, 0) * made / (now - self.start))
        return max(made, min((settled["rounds"] + EXTRA_ROUNDS) * a_round, fitting))

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _unsure(self, name: str) -> bool:
        low, high = interval(counted(self.visits[name], self.gate.best_ms))
        return not high - low <= SURE * (high + low)


def pilot_of(units: list) -> list:
    """The units visited in any case: the first ones, and others evenly from the rest; `PILOT` of them, or all."""
    rest = units[FIRST:]
    count = min(PILOT - FIRST, len(rest))
    return units[:FIRST] + [rest[k * len(rest) // count] for k in range(count)]


def interval(minima_ms) -> tuple:
    """95 % bootstrap interval of an item's score over its visits, in milliseconds; not-a-number from one visit."""
    if len(minima_ms) < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(0).integers(len(minima_ms), size=(BOOTSTRAPS, len(minima_ms)))
    scores = pseudo_median(np.asarray(minima_ms, dtype=float)[picks])
    return float(np.percentile(scores, 2.5)), float(np.percentile(scores, 97.5))
