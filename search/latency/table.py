"""`*.lat.json`: what a calibration measured, what was fitted to it, how well it predicts. Plain numbers, no pickle.

`table.schema.json` beside this file is its JSON Schema. A table carries a hash of its content: an edited or damaged one
is refused.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from search.errors import UserError
from search.files import JsonObject, check_file, read_json, write_text
from search.records import Count, FloatExactCount, Seconds, Share, parse_record
from spaces.custom import SpaceRecord

SCHEMA: Literal["ghostnas.latency/3"] = "ghostnas.latency/3"
SCHEMA_FILE = Path(__file__).with_name("table.schema.json")
MOST_MS = 1e7  # hours
MOST_BYTES = 2**50
Bound = Annotated[float, Field(ge=-MOST_MS, le=MOST_MS)]
Ms = Annotated[float, Field(gt=0, le=MOST_MS)]
Factor = Annotated[float, Field(ge=-1e12, le=1e12)]  # its products are finite
Error = Annotated[float, Field(ge=0, le=1e12)]  # relative
Tau = Annotated[float, Field(ge=-1, le=1)]
DIGITS = 6  # significant ones that are written


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Device(_Model):
    """The machine that was timed."""

    machine: str
    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory_gb: float | None
    system: str
    governor: str
    container: bool
    python: str


class Setting(_Model):
    """What a prediction is valid for."""

    runtime: str
    runtime_version: str
    threads: FloatExactCount
    batch: FloatExactCount = Field(description="images in one run; latencies are of a run")
    dtype: Literal["float32", "int8"]
    lowering: str = Field(description="of the cheap op: search/graphs/lowering.py")
    space: SpaceRecord = Field(description="a preset's name, or the table of a space of the user's own")
    space_id: str
    resolution: FloatExactCount
    num_classes: Count
    in_chs: FloatExactCount


class Protocol(_Model):
    """How it was timed."""

    visits: Count
    disturbed: Share = Field(description="share of visits that a busy machine spoilt")
    rounds: Count
    units_in_space: Count = Field(description="those that were not timed are estimated")
    reference_ms: Ms = Field(description="the reference network's time in quiet moments, in the runtime")
    seconds: Seconds
    seed: int
    finished: str
    rescaled: float = Field(default=1.0, gt=0, description="factor that a later check put on every latency")


class Entry(_Model):
    """One unit, timed alone; with a 95 % bootstrap interval over its measurements where there are several. Without
    visits: estimated by the units that were timed, or transferred from another target's table, with the 95 % interval
    of that."""  # of three visits the bootstrap's interval holds the truth in some 78 % of cases

    ms: Ms
    low_ms: Bound | None
    high_ms: Bound | None
    visits: Count

    def times(self, factor: float) -> "Entry":
        """The entry with its milliseconds, and its interval's, times a factor."""
        ends = {"ms": self.ms, "low_ms": self.low_ms, "high_ms": self.high_ms}
        return self.model_copy(update={name: None if ms is None else ms * factor for name, ms in ends.items()})


class Fallback(_Model):
    """The law that estimates of units that were never timed begin with, from their layers: the sum of `ms[term]` times
    the term's amount, for every layer. In tables of earlier versions it is all there is of them."""

    ms: dict[str, Bound] = Field(description="milliseconds a layer, a million multiply-adds, a million values, by kind")
    error: float = Field(ge=0, le=1e6, description="relative, of an estimated unit: root mean square")


class Transfer(_Model):
    """The table of another target that this one was transferred from, and what was measured on its own."""

    content_sha256: str = Field(description="of the source")
    device: Device
    setting: Setting
    networks: Count = Field(description="measured on the target and fitted; those held out come on top")
    units: Count = Field(description="measured on the target; an entry without visits is transferred")
    unit_error: float = Field(ge=0, description="relative, of a unit that is left out: root mean square")


class PeakMemory(_Model):
    """What a network takes of the device's memory at its peak, from opening its file to the end of a run, beyond the
    runtime's own and the file's content: constant + activations + weights of the closed form (ghostnet/memory.py), each
    byte times a factor; the interval is a factor on both sides."""

    constant_bytes: float = Field(ge=0, le=MOST_BYTES)
    per_activation_byte: float = Field(ge=0, le=1e9)
    per_weight_byte: float = Field(ge=0, le=1e9)
    networks: Count = Field(description="measured, of those that were timed and held out")
    error: float = Field(ge=0, le=1e6, description="mean relative error of a network that is left out of the fit")
    quantile: float = Field(ge=0, le=1e6, description="the interval's factor, less 1: of networks left out of the fit")
    coverage: Share


class Correction(_Model):
    """y = intercept + slope * sum + weights * parameters and their square + what is handed from unit to unit + what two
    kinds of blocks take less or more in a network than alone; the interval is a factor on both sides, a quantile times
    what the network's own entries and the fit leave uncertain."""

    intercept_ms: Factor
    slope: Factor
    ms_per_mparam: Factor = Field(description="a million parameters: a unit that is timed alone keeps its own in cache")
    ms_per_mparam_squared: float = Field(
        default=0.0, ge=0, le=1e12, description="a million parameters, squared: weights that outgrow a cache"
    )
    ms_per_mvalue: tuple[Factor, ...] = Field(
        default=(),
        description="for each unit, a million values that it puts out: alone it brings what it reads and writes into "
        "the runtime's own form and back, which neighbours in a network may spare each other",
    )
    ms_per_plain: Factor = Field(default=0.0, description="a block of ghost ratio 1, which is convolutions alone")
    ms_per_plain_mvalue: Factor = Field(default=0.0, description="a million values that such a block puts out")
    ms_per_se: Factor = Field(default=0.0, description="a block with squeeze-and-excitation")
    slots: tuple[Factor, ...] = Field(default=(), description="of earlier versions: added to the slope, unit by unit")
    spread: float = Field(gt=0, le=1e12, description="relative, of the fit on its own networks")
    spread_ms: float = Field(
        default=0.0, ge=0, le=1e12, description="what of it is taken to be the same in all networks"
    )
    quantile: Error
    coverage: Share

    def times(self, factor: float) -> "Correction":
        """With every latency times a factor; what is relative stays. What is in milliseconds says so in its name."""
        own = {name: getattr(self, name) for name in type(self).model_fields if "ms" in name.split("_")}
        update = {
            name: tuple(factor * each for each in value) if isinstance(value, tuple) else factor * value
            for name, value in own.items()
        }
        return self.model_copy(update=update)


class Network(_Model):
    """A whole network that was timed, and what the fitted predictor says of it."""

    code: tuple[Count, ...]
    measured_ms: Ms
    predicted_ms: float = Field(gt=0)
    low_ms: float = Field(ge=0)
    high_ms: float = Field(gt=0)


class Agreement(_Model):
    """Predictions beside measurements: relative errors, and ranks."""

    mape: Error
    kendall_tau: Tau


class Validation(_Model):
    """Errors on networks that were not fitted, relative to the measured latency, with 95 % bootstrap intervals over
    networks; beside the ruler's own, and what simpler predictors make of the same networks."""

    networks: FloatExactCount
    mape: Error
    mape_95: tuple[Error, Error]
    p90: Error
    max: Error
    bias: Factor
    within_5: Share
    within_10: Share
    kendall_tau: Tau
    kendall_tau_95: tuple[Tau, Tau]
    spearman: Tau
    spearman_95: tuple[Tau, Tau]
    covered: Share | None = Field(
        default=None, description="of earlier versions: said nothing, whatever the errors were; absent since"
    )
    ruler: Agreement | None = Field(description="one half of the visits beside the other, if there are several")
    simpler: dict[str, Agreement] = Field(description="fitted on the same networks: MACs, the plain sum, features")
    held_out: tuple[Network, ...] = Field(min_length=1)


class LatencyTable(_Model):
    """A calibration. `Predictor` turns it into milliseconds for networks."""

    schema_: Literal["ghostnas.latency/3"] = Field(default=SCHEMA, alias="schema")
    content_sha256: str = ""
    device: Device
    setting: Setting
    protocol: Protocol
    transfer: Transfer | None = Field(default=None, description="absent where all was measured on this target")
    correction: Correction
    fallback: Fallback | None = Field(description="none where too few units were timed to fit one")
    peak_memory: PeakMemory | None = Field(default=None, description="absent where it wasn't measured")
    validation: Validation
    entries: dict[str, Entry]

    @property
    def space_name(self) -> str:
        """The space's name, a preset's or the user's own."""
        space = self.setting.space
        return space if isinstance(space, str) else str(space.get("name", "custom"))

    @property
    def digest(self) -> str:
        """The hash of the content, also of a table that was not saved yet."""
        return self.content_sha256 or _sealed(self._content())["content_sha256"]

    def _content(self) -> JsonObject:
        content = self.model_dump(mode="json", by_alias=True)
        for optional in ("transfer", "peak_memory"):
            if content[optional] is None:
                del content[optional]
        if self.validation.covered is None:
            del content["validation"]["covered"]
        content["correction"] = self.correction.model_dump(mode="json", exclude_defaults=True)
        return content

    @property
    def units_timed(self) -> int:
        """How many of the entries were timed on the target."""
        return sum(entry.visits > 0 for entry in self.entries.values())

    def save(self, path: str | Path) -> "LatencyTable":
        """Writes the table in one step: indented, an entry or a network a line, so that it reads and diffs well.

        Returns:
            the table as it is in the file, where numbers are rounded.

        Raises:
            UserError: a number breaks its rule, or the path is a folder's.
        """
        check_file(Path(path))
        content = _sealed(self._content())
        table = parse_record(LatencyTable, content, str(path))  # what can't be read is not written
        write_text(Path(path), _text(content))
        return table

    @classmethod
    def load(cls, path: str | Path) -> "LatencyTable":
        """Reads a table.

        Raises:
            UserError: no such file, not a table of this schema, or one that was changed since it was written.
        """
        try:
            content = read_json(Path(path))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        except UserError as error:
            raise UserError(f"no latency table: {error}") from None
        schema = content.get("schema") if isinstance(content, dict) else None
        if isinstance(schema, str) and re.fullmatch(r"ghostnas\.latency/[0-9]{1,9}", schema) and schema != SCHEMA:
            raise UserError(f"{path} has schema {schema}, but this version reads {SCHEMA}: calibrate again")
        table = parse_record(cls, content, str(path))
        if _sealed(content)["content_sha256"] != table.content_sha256:
            raise UserError(f"{path} was changed since it was written: its content_sha256 doesn't fit")
        return table


def json_schema() -> JsonObject:
    """The JSON Schema of a table, as it is shipped in `table.schema.json`."""
    schema = LatencyTable.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _sealed(content: JsonObject) -> JsonObject:
    """The content with the hash of all the rest."""
    rest = _rounded({key: value for key, value in content.items() if key != "content_sha256"})
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return {"schema": rest.pop("schema"), "content_sha256": digest, **rest}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def _text(content: JsonObject) -> str:
    """JSON whose `entries` and `held_out` stand one a line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in content["entries"].items()]
    networks = [f"   {json.dumps(network)}" for network in content["validation"]["held_out"]]
    rest = {key: value for key, value in content.items() if key != "entries"}
    rest["validation"] = {key: value for key, value in rest["validation"].items() if key != "held_out"}
    head = json.dumps(rest, indent=1)
    closing = "\n }\n}"  # of the validation, which is last
    assert head.endswith(closing)
    return (
        head.removesuffix(closing)
        + ',\n  "held_out": [\n' + ",\n".join(networks) + "\n  ]\n },\n"
        + ' "entries": {\n' + ",\n".join(lines) + "\n }\n}\n"
    )  # fmt: skip


class Headline(_Model):
    """The headline of a table, for people and `--json`."""

    space: str
    runtime: str
    device: str
    entries: int
    units_in_space: int
    held_out_networks: int
    mape_percent: float
    max_percent: float
    within_5_percent: float
    within_10_percent: float
    kendall_tau: float
    ruler_mape_percent: float | None
    ruler_kendall_tau: float | None
    disturbed_percent: float
    transferred_from: str | None = None  # not given where all was measured on this target
    peak_memory_error_percent: float | None = None  # not given where it wasn't measured


def describe(table: LatencyTable) -> Headline:
    """The headline of a table."""
    v, s = table.validation, table.setting
    given: dict[str, Any] = {} if table.transfer is None else {"transferred_from": source_name(table.transfer)}
    given |= {} if (fit := table.peak_memory) is None else {"peak_memory_error_percent": round(100 * fit.error, 2)}
    return Headline(
        space=table.space_name,
        runtime=_target(s),
        device=table.device.cpu,
        entries=table.units_timed,
        units_in_space=table.protocol.units_in_space,
        held_out_networks=v.networks,
        mape_percent=round(100 * v.mape, 2),
        max_percent=round(100 * v.max, 2),
        within_5_percent=round(100 * v.within_5, 1),
        within_10_percent=round(100 * v.within_10, 1),
        kendall_tau=round(v.kendall_tau, 3),
        ruler_mape_percent=None if v.ruler is None else round(100 * v.ruler.mape, 2),
        ruler_kendall_tau=None if v.ruler is None else round(v.ruler.kendall_tau, 3),
        disturbed_percent=round(100 * table.protocol.disturbed, 1),
        **given,
    )


def format_error(table: LatencyTable) -> str:
    """How good a table is, in a line."""
    v = table.validation
    return (
        f"error on {v.networks} networks it never saw: {v.mape:.1%} on average, {v.max:.1%} at most, Kendall tau "
        f"{v.kendall_tau:.2f}; {table.protocol.disturbed:.0%} of the visits were disturbed"
    )


def source_name(transfer: Transfer) -> str:
    """What a table was transferred from, in a few words."""
    return target_name(transfer.setting, transfer.device)


def target_name(setting: Setting, device: Device) -> str:
    """What latencies are of, in a few words: runtime, data type, threads, batch, processor."""
    return f"{_target(setting)}, on {device.cpu}"


def _target(setting: Setting) -> str:
    s = setting
    return f"{s.runtime} {s.runtime_version}, {s.dtype}, {s.threads} thread(s), batch {s.batch}"
