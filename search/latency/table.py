"""`*.lat.json`: what a calibration measured, what was fitted to it, how well it predicts. Plain numbers, no pickle."""

import os
import platform
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.errors import UserError
from search.files import write_text

SCHEMA: Literal["ghostnas.latency/1"] = "ghostnas.latency/1"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Device(_Model):
    """The machine that was timed."""

    machine: str
    cpu: str
    cores: int
    system: str
    governor: str


class Setting(_Model):
    """What a prediction is valid for."""

    runtime: str
    runtime_version: str
    threads: int
    batch: int = 1
    dtype: str = "float32"
    space: str | dict[str, Any] = Field(description="a preset's name, or the table of a space of the user's own")
    space_id: str
    resolution: int
    num_classes: int
    in_chs: int


class Protocol(_Model):
    """How it was timed."""

    visits: int
    disturbed: float = Field(description="share of visits that a busy machine spoilt")
    seconds: float
    seed: int
    finished: str


class Entry(_Model):
    """One unit, timed alone."""

    ms: float = Field(gt=0)
    visits: int


class Correction(_Model):
    """y = intercept + slope * sum + per-slot corrections; the interval is a factor on both sides."""

    intercept_ms: float
    slope: float
    slots: tuple[float, ...]
    interval: float = Field(ge=0)
    coverage: float


class Network(_Model):
    """A whole network that was timed, and what the fitted predictor says of it."""

    code: tuple[int, ...]
    measured_ms: float
    predicted_ms: float


class Validation(_Model):
    """Errors on networks that were not fitted, relative to the measured latency, beside the ruler's own."""

    networks: int
    mape: float
    p90: float
    max: float
    bias: float
    within_5: float
    within_10: float
    kendall_tau: float
    ruler_mape: float | None = Field(
        description="difference of the scores of two halves of the visits, if more than one"
    )
    held_out: tuple[Network, ...]


class LatencyTable(_Model):
    """A calibration. `Predictor` turns it into milliseconds for networks."""

    schema_: Literal["ghostnas.latency/1"] = Field(default=SCHEMA, alias="schema")
    device: Device
    setting: Setting
    protocol: Protocol
    correction: Correction
    validation: Validation
    entries: dict[str, Entry]

    @property
    def space_name(self) -> str:
        """The space's name, a preset's or the user's own."""
        said = self.setting.space
        return said if isinstance(said, str) else str(said.get("name", "custom"))

    def save(self, path: Path) -> None:
        """Writes the table in one step."""
        write_text(path, self.model_dump_json(by_alias=True, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "LatencyTable":
        """Reads a table.

        Raises:
            UserError: no such file, or not a table of this schema.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(f"{path} is no latency table ({SCHEMA}): {where}: {first['msg']}") from None


def this_device() -> Device:
    """The machine we run on, as far as it tells."""
    info = _read("/proc/cpuinfo")
    models = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return Device(
        machine=platform.machine(),
        cpu=models[0] if models else platform.processor() or "unknown",
        cores=os.cpu_count() or 1,
        system=platform.platform(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "unknown",
    )


def now() -> str:
    """UTC time to the second, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def describe(table: LatencyTable) -> dict[str, Any]:
    """The headline of a table, for people and `--json`."""
    v = table.validation
    return {
        "space": table.space_name,
        "runtime": f"{table.setting.runtime} {table.setting.runtime_version}, {table.setting.threads} thread(s)",
        "device": table.device.cpu,
        "entries": len(table.entries),
        "held_out_networks": v.networks,
        "mape_percent": round(100 * v.mape, 2),
        "max_percent": round(100 * v.max, 2),
        "kendall_tau": round(v.kendall_tau, 3),
        "ruler_mape_percent": None if v.ruler_mape is None else round(100 * v.ruler_mape, 2),
        "disturbed_percent": round(100 * table.protocol.disturbed, 1),
    }
