"""A model's file, `deployments/<model>.toml`, as a validated value. The file's name is the model's name."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tasks.core.errors import InvalidRequest, SpecError
from tasks.core.spec_problems import problems_of

PREDICTION = "prediction"
"""What people call the distribution of the answers, where they name columns that are expected to drift."""

AGE = r"^[0-9]{1,5}[dwy]$"
"""`90d`, `12w`, `2y`: days, weeks, or years of 365 days."""

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MODEL_NAME_RULE = "use lower-case letters, digits, '-' and '_', at most 64, with a letter or digit first"


def _relative(pattern: str) -> str:
    if pattern.startswith("/") or ".." in Path(pattern).parts:
        raise ValueError("must be a path below the root, without '..'")
    return pattern


def _day(value: Any) -> str:
    """A date, or a day of every year, as it is written: `2026-12-20`, `12-20`."""
    text = value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else value
    if isinstance(text, str) and re.fullmatch(r"(\d{4}-)?\d{2}-\d{2}", text):
        try:
            date.fromisoformat(text if len(text) > len("12-20") else f"2000-{text}")  # a leap year: 02-29 is a day
        except ValueError as error:
            raise ValueError(f"invalid date ({error})") from None
        return text
    raise ValueError("must be a date, 2026-12-20, or a day of every year in quotes, '12-20'")


def _key(value: Any) -> Any:
    """One column or several; a list of one is that column."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _keep(value: Any) -> Any:
    """A number of batches, or an age."""
    if value is None or (type(value) is int and value > 0) or (isinstance(value, str) and re.fullmatch(AGE, value)):
        return value
    raise ValueError("use a number of batches, such as 24, or an age: 90d, 12w or 2y")


KeyKind = Literal["integer", "text", "time"]
Glob = Annotated[str, AfterValidator(_relative)]
Day = Annotated[str, BeforeValidator(_day)]


class Section(BaseModel):
    """A section of a model's file: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError("unknown encoding; use e.g. utf-8, latin-1, cp1252 or utf-16") from None
    return name


class CsvSpec(Section):
    """How CSV files are written, batches and labels alike."""

    separator: str = Field(
        ",", pattern=r"^[^\r\n\"\w]$", description="One character between values: ',', ';', '|', a tab."
    )
    decimal: Literal[".", ","] = Field(".", description="The mark in numbers: '.' or ','.")
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field("utf-8", description="Such as 'latin-1'.")
    missing: tuple[str, ...] = Field(
        (), description="Texts that mean missing, such as '?', besides NA, NULL, NaN and nothing."
    )
    thousands: Literal["", ",", ".", " ", "'", "_"] = Field("", description="The mark between groups of digits.")
    strip: str = Field(
        "",
        pattern=r"^[^\d+\-\u2212\u2013\"\r\n]*$",
        description="Characters around numbers, such as '%$€'; with '()' a number in them is negative.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> CsvSpec:
        if self.separator == self.decimal == ".":
            raise ValueError("separator and decimal are both '.': use two different characters")
        if self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}: use two different characters")
        if ("(" in self.strip) != (")" in self.strip):
            raise ValueError("strip has one bracket only: a number in '(' and ')' is negative")
        return self


class DataSpec(Section):
    """Where batches and labels arrive."""

    batches: Glob = Field(description="Glob of batch files or folders; by name in time order, 2026-9 before 2026-10.")
    labels: Glob | None = Field(None, description="Glob of label files, joined by key; none: labels are in the batch.")
    min_coverage: float = Field(0.8, gt=0, le=1, description="Share of rows with a label at which a batch counts.")
    label_delay: int | None = Field(
        None, ge=0, description="Later batches that arrive before the labels of one are complete; none: as seen so far."
    )
    overdue: int = Field(4, ge=0, description="Batches beyond that delay after which missing labels raise an alarm.")
    settle: Annotated[float, Field(ge=0, le=3600)] | Literal["marker"] = Field(
        5.0, description="Seconds a file must have been left alone to count, or 'marker': _SUCCESS, <name>.done."
    )
    keep: Annotated[int | str | None, BeforeValidator(_keep)] = Field(
        None,
        description="Newest batches whose files are kept, a number or an age by their names, '2y': older ones may be "
        "gone; none: those that a fit looks at.",
    )
    private: tuple[str, ...] = Field((), description="Columns whose values never appear in messages.")
    csv: CsvSpec = CsvSpec()


class PipelineSpec(Section):
    """Who builds the unfitted scikit-learn Pipeline."""

    factory: str = Field(
        "tasks.core.training:tabular",
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`package.module:callable`",
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for the factory.")
    format: Literal["joblib", "skops"] = Field(
        "joblib", description="How versions are saved; with skops no version that is a pickle is loaded."
    )
    types: tuple[str, ...] = Field(
        (), description="Classes other than scikit-learn's that skops may load: 'module.Class'."
    )
    frames: Literal["plain", "pandas"] = Field(
        "plain", description="Columns as numbers and text, or in the types of pandas: int64, bool, category."
    )
    rows: Literal["alone", "together"] = Field(
        "alone", description="Whether a row is answered alike whatever rows come with it, or only batches as a whole."
    )
    environment: tuple[str, ...] = Field(
        (), description="Environment variables that the pipeline needs wherever it is loaded."
    )


class TrainingSpec(Section):
    """What a run computes with."""

    threads: int | None = Field(
        None,
        ge=1,
        description="Threads of a run, in numerical libraries; none: OMP_NUM_THREADS, else the cores, divided by the "
        "models here where a deployment starts it.",
    )


class ChecksSpec(Section):
    """How much is measured, and the floors below which a measurement never alarms."""

    sample_rows: int = Field(20_000, ge=100, le=1_000_000, description="Rows of the bounded samples.")
    drift_floor: float = Field(0.1, gt=0, description="Distance that a column must at least move to count as drift.")
    null_floor: float = Field(
        0.1, gt=0, le=1, description="Rise of a column's share of missing values beyond its history's peak: a change."
    )
    unseen_floor: float = Field(
        0.01, gt=0, le=1, description="Rise of the share of unseen categories beyond its history's peak: a change."
    )
    range_floor: float = Field(
        0.1, gt=0, le=1, description="Rise of the share outside the earlier range beyond its history's peak: a change."
    )
    slice_rows: int = Field(100, ge=10, description="Labelled rows a slice must have, in a batch and before it.")


class ReportsSpec(Section):
    """How long what runs show is kept, beside the record of what they decided, which is kept for ever."""

    keep: str = Field(
        "1y",
        pattern=r"^[0-9]{1,3}[dwy]$",
        description="Age from which `ror store prune` removes Evidently's pages, megabytes each: 90d, 12w or 2y.",
    )


class Expected(Section):
    """A period in which data are known to differ: what drifts there is shown as a warning, and retrains nothing."""

    # `from` is a Python keyword; stored specifications use the field's own name, so both are read.
    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(min_length=1, description="A name that people understand: 'Christmas'.")
    start: Day = Field(alias="from", description="First day: 2026-12-20, or '12-20' for every year.")
    until: Day = Field(description="Last day, written like `from`; a yearly period may wrap around New Year.")
    columns: tuple[str, ...] = Field(
        (), description="Features, 'prediction' or the target; empty: every column, the prediction and the target."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Expected:
        if len(self.start) != len(self.until):
            raise ValueError(
                f"{self.name} runs from {self.start} until {self.until}: write both as dates, or both as days of a year"
            )
        if not self.yearly and self.start > self.until:
            raise ValueError(f"{self.name} runs from {self.start} until {self.until}: it ends before it begins")
        return self

    @property
    def yearly(self) -> bool:
        """Whether it comes back every year."""
        return len(self.start) == len("12-20")


class Forgetting(Section):
    """How much of the past a fit looks at; empty: all of it."""

    window: int | None = Field(None, ge=1, description="Train on this many of the newest labelled batches only.")
    half_life: float | None = Field(None, gt=0, description="Batches after which a row's weight has halved.")

    @model_validator(mode="after")
    def _one(self) -> Forgetting:
        if self.window and self.half_life:
            raise ValueError("set window or half_life, not both")
        return self


class PolicySpec(Section):
    """When to retrain."""

    retrain_cost: float = Field(0.05, gt=0, description="What a retrain is worth, as a share of one batch's loss.")
    retrain: float | None = Field(None, gt=0, description="Cost of one retrain in money; needs error.")
    error: float | None = Field(None, gt=0, description="Cost of one unit of loss on one row in money; needs retrain.")
    forgetting: Forgetting = Forgetting()
    max_age: Annotated[int, Field(ge=1)] | Literal["never"] = Field(16, description="Labelled batches, or 'never'.")
    min_rows: int = Field(200, ge=10, description="Labelled rows below which nothing is trained.")
    drift: Literal["early-warning", "trigger", "report"] = Field(
        "early-warning", description="Drift retrains from half the interval on, at once, or is only shown."
    )
    drift_weight: float = Field(
        0.25, gt=0, le=1, description="Drifted columns alarm when they carry this share of the importance."
    )
    on_change: Literal["retrain", "block"] = Field(
        "retrain", description="Changed content is learned once it has labels, or is set aside until `ror accept`."
    )
    promotion: Literal["auto", "approve"] = Field(
        "auto", description="A new version serves at once, or waits for `ror promote`."
    )
    metric_floor: float | None = Field(None, description="The primary metric a challenger must reach.")

    @model_validator(mode="after")
    def _money(self) -> PolicySpec:
        if (self.retrain is None) != (self.error is None):
            raise ValueError(
                "set both retrain and error, or neither: the cost of a retrain, and the cost of one unit of loss"
            )
        return self

    def price(self, loss: float, rows: float) -> float:
        """What a retrain is worth, in loss per row of one batch: of `rows` rows that usually lose `loss` each."""
        if self.retrain is not None and self.error is not None and rows:
            return self.retrain / (self.error * rows)
        return self.retrain_cost * loss


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("unknown time zone; use e.g. 'Europe/Berlin' or 'UTC'") from None
    return name


TIMEOUT_MINUTES = 12 * 60.0
"""Also of a run of a model without a schedule."""


class ScheduleSpec(Section):
    """When a run starts by itself, once `ror deploy` or `ror serve` has told Prefect."""

    cron: str = Field(
        pattern=r"^\S+( +\S+){4}$", description="Minute, hour, day, month, weekday: '0 6 * * 1' is Mondays at six."
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field("UTC", description="Such as 'Europe/Berlin'.")
    overdue_hours: float | None = Field(
        None, gt=0, description="Hours without a completed check that raise an alarm; none: derived from the schedule."
    )
    timeout_minutes: float = Field(
        TIMEOUT_MINUTES, gt=0, le=60 * 24 * 7, description="Minutes after which a run that hangs is ended."
    )


DEFAULT_METRICS = {
    "binary": "roc_auc",
    "multiclass": "balanced_accuracy",
    "regression": "neg_mean_absolute_error",
}
"""For people, where the model's file names none; by task."""


class ModelSpec(Section):
    """Everything about one model that a person decides."""

    task: Literal["binary", "multiclass", "regression"] = Field(description="What is predicted: a class or a number.")
    target: str = Field(description="The column to predict.")
    classes: tuple[bool | int | str, ...] = Field(
        (), description="Values the target may have; none: those of the version in service, else of the first labels."
    )
    key: Annotated[str | tuple[str, ...] | None, BeforeValidator(_key)] = Field(
        None, description="Column that identifies a row, or several that do so together; needed to join late labels."
    )
    key_kind: KeyKind | tuple[KeyKind, ...] | None = Field(
        None,
        description="What the key is, in batches and labels alike: one word for all its columns, or a list with a word "
        "for each; none: as the columns of each batch suggest.",
    )
    key_width: int | None = Field(
        None, ge=1, le=100, description="Characters of key columns of kind text: shorter ones get zeros on the left."
    )
    time: str | None = Field(None, description="Column that grows with time; not a feature unless listed.")
    features: tuple[str, ...] | None = Field(None, description="Left out: every column but target, key and time.")
    categorical: tuple[str, ...] = Field((), description="Numbers that are names: ids, codes.")
    growing: tuple[str, ...] = Field((), description="Columns that grow with time: no range is expected of them.")
    metric: str = Field("", description="scikit-learn scorer for people; by default one that suits the task.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of everything random: the same seed, the same version.")
    owner: str = Field(description="Who is told: alerts and pages name it.")
    purpose: str = Field(description="What the model is for: alerts and pages say it.")
    runbook: str | None = Field(None, description="Where to read what to do when this model raises an alarm: a link.")
    slices: tuple[str, ...] = Field((), description="Columns by whose values performance is shown, value by value.")
    expected: tuple[Expected, ...] = Field((), description="Periods in which data are known to differ.")
    code: tuple[Glob, ...] = Field((), description="Folders below the root with modules of your own, 'src'.")
    data: DataSpec
    pipeline: PipelineSpec = PipelineSpec()
    training: TrainingSpec = TrainingSpec()
    checks: ChecksSpec = ChecksSpec()
    reports: ReportsSpec = ReportsSpec()
    policy: PolicySpec = PolicySpec()
    schedule: ScheduleSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_metric(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("metric") and values.get("task") in DEFAULT_METRICS:
            return {**values, "metric": DEFAULT_METRICS[values["task"]]}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if self.data.labels and not self.key:
            raise ValueError("data.labels needs key: late labels are joined by it")
        if self.classes:
            if self.task == "regression":
                raise ValueError("classes lists what a class may be, and a regression has none")
            if len({*self.classes}) != len(self.classes) or len({isinstance(one, str) for one in self.classes}) > 1:
                raise ValueError("classes must be different values of one kind: all text, or all numbers")
            if len(self.classes) < 2 or (self.task == "binary" and len(self.classes) > 2):
                raise ValueError(f"classes has {len(self.classes)} values: {self.task} needs {self._needs}")
        if (self.key_kind or self.key_width) and not self.key:
            raise ValueError("key_kind and key_width need key: they say how it is written")
        if isinstance(self.key, tuple) and not 0 < len(self.key) == len({*self.key}):
            raise ValueError('key lists different columns, such as ["customer", "month"]')
        if isinstance(self.key_kind, tuple) and len(self.key_kind) != len(self.key_columns):
            raise ValueError("key_kind is one word, or a list with a word for each column of key")
        if self.key_width and "text" not in self.key_kinds:
            raise ValueError('key_width needs key_kind = "text": only text has zeros on the left')
        if self.features and self.target in self.features:
            raise ValueError(f"features lists the target {self.target!r}: the answer must not be an input")
        if secret := sorted({*self.slices} & {*self.data.private}):
            raise ValueError(
                f"slices lists {', '.join(secret)}, which data.private keeps secret: slices would show their values"
            )
        return self

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Columns that identify a row together; none where nothing does."""
        return (self.key,) if isinstance(self.key, str) else self.key or ()

    @property
    def key_kinds(self) -> tuple[KeyKind | None, ...]:
        """What each of them is; None where the data say so."""
        kind, columns = self.key_kind, self.key_columns
        return kind if isinstance(kind, tuple) else (kind,) * len(columns)

    @property
    def key_text(self) -> str:
        """The key as people are told of it: `customer`, `customer, month`."""
        return ", ".join(self.key_columns)

    @property
    def hides_key(self) -> bool:
        """Whether keys are kept out of messages, because one of their columns is private."""
        return not {*self.key_columns}.isdisjoint(self.data.private)

    @property
    def _needs(self) -> str:
        return "two" if self.task == "binary" else "two or more"

    def folders(self, root: Path) -> list[Path]:
        """Folders of the model's own modules."""
        return [root / folder for folder in self.code]

    @property
    def timeout_minutes(self) -> float:
        """How long a run may take."""
        return self.schedule.timeout_minutes if self.schedule else TIMEOUT_MINUTES

    def canonical(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """What a decision depends on, as plain JSON types: the same for the same question, whatever release asks it.

        Left out are NO_QUESTION, the fields named in `exclude`, and, in every section, each field that is not in
        FIELDS_V1 as long as it has its default.
        """
        dumped = self.model_dump(mode="json", by_alias=False)
        kept: dict[str, Any] = _reduced(self, dumped)
        return {name: value for name, value in kept.items() if name not in {*NO_QUESTION, *exclude}}

    def recorded(self) -> dict[str, Any]:
        """All of it as a version keeps it, as plain JSON types. An earlier release reads it too, unless it uses a later
        option."""
        kept = self.canonical()
        dumped = self.model_dump(mode="json")
        set_here = {*NO_QUESTION} - {name for name in LATER if getattr(self, name) == _default(name)}
        return {name: kept.get(name, its) for name, its in dumped.items() if name in kept or name in set_here}

    @property
    def training_digest(self) -> str:
        """sha256 of what a version that is trained depends on: not when one is, nor what is only looked at."""
        kept = self.canonical(exclude=("policy", "checks", "slices", "expected"))
        kept["forgetting"] = self.policy.forgetting.model_dump(mode="json")
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """sha256 of all that a decision depends on, in hexadecimal: part of the run key."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()


LATER = frozenset({"reports"})
"""Those of NO_QUESTION that are recorded only where a model's file sets them: an earlier release does not know them."""

NO_QUESTION = frozenset({"owner", "purpose", "runbook", "schedule"}) | LATER
"""When runs start, who reads what, and for how long, changes no question."""

FIELDS_V1: Mapping[str, frozenset[str]] = {
    section: frozenset(names.split())
    for section, names in {
        "": "task target key time features categorical growing metric seed slices expected code "
        "data pipeline checks policy",
        "data": "batches labels min_coverage label_delay overdue settle private csv",
        "data.csv": "separator decimal encoding",
        "pipeline": "factory parameters format types",
        "checks": "sample_rows drift_floor null_floor unseen_floor range_floor slice_rows",
        "expected": "name start until columns",
        "policy": "retrain_cost retrain error forgetting max_age min_rows drift drift_weight on_change promotion "
        "metric_floor",
        "policy.forgetting": "window half_life",
    }.items()
}
"""The fields that the digest has always held, by section; never edited. A field that is added later is not listed: it
enters the digest only where a model's file sets it, so that no model is decided on anew because the program grew. It
may accept more kinds of values in time. Another default of a later field would go unnoticed: raise POLICY_VERSION."""


def _reduced(value: Any, dumped: Any, path: str = "") -> Any:
    """`dumped`, which is the JSON of `value`, without later fields that have their default, in all sections below."""
    if isinstance(value, tuple):
        return [_reduced(item, its, path) for item, its in zip(value, dumped, strict=True)]
    if not isinstance(value, Section):
        return dumped
    kept = {}
    for name, field in type(value).model_fields.items():
        its = getattr(value, name)
        if name in FIELDS_V1.get(path, ()) or its != field.get_default(call_default_factory=True):
            kept[name] = _reduced(its, dumped[name], f"{path}.{name}".lstrip("."))
    return kept


def _default(section: str) -> Any:
    return ModelSpec.model_fields[section].get_default(call_default_factory=True)


def load_spec(root: Path, model: str) -> ModelSpec:
    """Read `deployments/<model>.toml` below `root`. Raises InvalidRequest when there is none, SpecError with every
    problem in it."""
    path = root / "deployments" / f"{model}.toml"
    if not MODEL_NAME.fullmatch(model):
        raise InvalidRequest("model", [f"invalid name {model!r}: {MODEL_NAME_RULE}"])
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(models(root)) or "none"
        raise InvalidRequest(
            "model", [f"there is no file {path}. Models here: {known}. Is this the right root?"]
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(str(path), [f"not valid TOML: {error}"]) from None
    spec = parse_spec(values, str(path))
    if missing := [str(folder) for folder in spec.folders(root) if not folder.is_dir()]:
        raise SpecError(str(path), [f"code: there is no folder {folder}" for folder in missing])
    return spec


def parse_spec(values: dict[str, Any], where: str) -> ModelSpec:
    """A model's file from its values. Raises SpecError with every problem; `where` names the file in it."""
    try:
        spec = ModelSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(where, problems_of(error, ModelSpec)) from None
    return spec


def models(root: Path) -> list[str]:
    """Names of the models below `root`, sorted."""
    return sorted(path.stem for path in (root / "deployments").glob("*.toml"))
