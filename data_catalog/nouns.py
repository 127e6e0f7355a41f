"""The nouns: every module speaks in these, and nothing else crosses a border between stages.

All are frozen and refuse unknown keys. Sizes are in bytes, times in seconds (wall clock, UTC epoch where
they are points in time), rates in bytes or rows per second. `digest` always means the hexadecimal SHA-256
of the content named.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Split = Literal["train", "calibration", "validation", "test"]
Tier = Literal["edge", "cloud"]
Objective = Literal["makespan", "bytes", "money"]  # seconds; bytes over the edges' links; units of money
Action = Literal["run", "train", "compress", "federate"]
SPLITS: tuple[Split, ...] = ("train", "calibration", "validation", "test")
REPORT_SCHEMA_VERSION = 1


class Noun(BaseModel):
    """Base of all nouns: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- what the catalog describes ---------------------------------------------------------------------------


class Rows(Noun):
    """The rows of a file that belong to a source: those whose number modulo `modulo` is in `remainders`."""

    modulo: int = Field(ge=1)
    remainders: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_range(self) -> Rows:
        if any(not 0 <= r < self.modulo for r in self.remainders):
            raise ValueError(f"remainders must lie between 0 and {self.modulo - 1}")
        return self


class Source(Noun):
    """Where a part of a dataset is born.

    `uri` is a path, any URL that fsspec knows, `package://<module>/<file>` for a file in an installed package, or
    `generated://<generator>/<file>?rows=..&seed=..` for made-up data (see `infra/generators`).
    """

    site: Name
    uri: str
    rows: Rows | None = None
    name: Name = ""  # default: the site's name

    @model_validator(mode="before")
    @classmethod
    def _name_it(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("name"):
            return {**data, "name": data.get("site", "")}
        return data


class Schema(Noun):
    """What a record is: one array of `shape` and `dtype`, values in `[low, high]`, and perhaps a label."""

    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    dtype: Literal["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]
    low: float | None = None
    high: float | None = None
    label: str | int | None = None  # column name or number (CSV), array name (NPZ); None: no labels
    # Names of the columns (arrays, features, keys) with the values, in this order; None: all but the label.
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)

    @property
    def values(self) -> int:
        """Values in one record."""
        size = 1
        for side in self.shape:
            size *= side
        return size


class Transform(Noun):
    """One preprocessing step: the plug-in's name and its settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def settings(self) -> dict[str, object]:
        """The keyword arguments for the plug-in."""
        return dict(self.__pydantic_extra__ or {})


class Dataset(Noun):
    """A named batch of records that are born at sites."""

    name: Name
    description: str
    license: str
    format: str = ""  # a reader's name; left out: chosen by the suffix of each source
    sources: tuple[Source, ...] = Field(min_length=1)
    record: Schema
    transforms: tuple[Transform, ...] = ()
    splits: dict[Split, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    batch: tuple[Split, ...] = ()  # the splits that a run answers; empty: every record
    shard_bytes: int = Field(
        default=8 << 20, ge=1
    )  # most bytes of records in a shard; less where a site has less memory
    shard_rows: int | None = Field(default=None, ge=1)  # most rows in a shard, whatever their bytes
    # What may leave the place where a record is born: whole shards (`any`), rows that the edge is unsure of, or
    # nothing at all (`site`: the edge's answer stands).
    residency: Literal["any", "unsure-rows", "site"] = "any"
    # A record that does not fit the schema stops the run, or is left out and stored with its reason.
    on_bad_record: Literal["fail", "quarantine"] = "fail"
    lossy: Transform | None = None  # lossy coding of the preprocessed values, only where it is asked for
    # `restricted`: its records lie in the store encrypted, readable by the planned sites alone.
    sensitivity: Literal["public", "restricted"] = "public"
    purpose: Name | Literal[""] = ""  # that its records were given for, as rules of the access policy name it

    @model_validator(mode="after")
    def _consistent(self) -> Dataset:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources have one name; give each its own `name`")
        if self.splits and abs(sum(self.splits.values()) - 1) > 1e-9:
            raise ValueError(f"the splits' shares add up to {sum(self.splits.values()):g}, not to 1")
        if missing := [split for split in self.batch if split not in self.splits]:
            raise ValueError(f"`batch` names {missing[0]!r}, which `splits` does not have")
        return self

    def source(self, name: str) -> Source:
        """The source of that name (KeyError if there is none)."""
        return next(source for source in self.sources if source.name == name)


class VariantSpec(Noun):
    """How one variant of a model is made and what runs it."""

    recipe: str
    runtime: str
    tier: Tier
    settings: dict[str, float | int | str | tuple[int, ...]] = Field(default_factory=dict)


class Gate(Noun):
    """The bound inside which an edge variant may lie below the cloud variant, in accuracy (1 = 100 %)."""

    max_drop: float = Field(gt=0, le=1)
    max_class_drop: float = Field(gt=0, le=1)


class Model(Noun):
    """A model family: a cloud variant and an edge variant, trained on one dataset."""

    name: Name
    description: str
    trained_on: Name
    classes: tuple[str, ...] = Field(min_length=2)
    seed: int = 0
    variants: dict[Tier, VariantSpec]
    gate: Gate

    @model_validator(mode="after")
    def _both_tiers(self) -> Model:
        for tier in ("edge", "cloud"):
            if tier not in self.variants:
                raise ValueError(f"`variants` has no {tier} variant")
            if self.variants[tier].tier != tier:
                raise ValueError(f"variants.{tier} says `tier: {self.variants[tier].tier}`")
        return self


class RecipeStep(Noun):
    """One step of a compression recipe: the plug-in's name and its settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    step: str

    @property
    def settings(self) -> dict[str, object]:
        """The step's settings, as far as the recipe gives them."""
        return dict(self.__pydantic_extra__ or {})


class CompressionRecipe(Noun):
    """How a model is made small: steps of `infra/steps`, in order, the last of which converts."""

    name: Name
    description: str
    teacher: Literal["original", "none"] = "original"  # whose answers a retraining step keeps to
    steps: tuple[RecipeStep, ...] = Field(min_length=1)


class Prices(Noun):
    """What a site costs, in units of money of the user's choice."""

    hour: float = Field(default=0.0, ge=0)  # of the site, while it works
    row: float = Field(default=0.0, ge=0)  # answered
    gb_up: float = Field(default=0.0, ge=0)  # a gigabyte (1e9 bytes) over its link, and
    gb_down: float = Field(default=0.0, ge=0)


class Site(Noun):
    """A place where shards are born or answered."""

    name: Name
    description: str = ""
    tier: Tier
    threads: int = Field(default=1, ge=1, le=256)
    memory_bytes: int | None = Field(default=None, ge=1 << 20)  # that the site's engine may fill with shards
    # Whether the shards born here stay in a store on the premises (reading them crosses no link) or lie in
    # the common store, on the far side of the site's link.
    shards_on_premises: bool = True
    runtime: str = ""  # what executes models here, such as `tflite_runtime`; empty: what each variant was made for
    prices: Prices = Prices()
    # How it gets its orders: called in this process; by a process of its own that polls a mailbox in the store
    # (`cloudedge site work`); by a Prefect worker of its own work pool.
    dispatch: Literal["embedded", "mailbox", "worker"] = "embedded"
    draining: bool = False  # gets no new work: a run that needs it is refused
    group: Name = ""  # sites that get the same variant of a model, see `infra/model_registry.py`; default: the tier
    region: Name | Literal[""] = ""  # where it stands, as rules of the access policy name it

    @model_validator(mode="before")
    @classmethod
    def _group_it(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("group") and data.get("tier"):
            return {**data, "group": data["tier"]}
        return data


# --- what a run makes -------------------------------------------------------------------------------------


class AccessDecision(Noun):
    """That somebody may do something with a dataset, and the rule that says so: see `infra/security/policy.py`."""

    who: str
    does: Action
    dataset: Name
    sensitivity: Literal["public", "restricted"]
    region: Name | Literal[""]
    sites: tuple[Name, ...]  # of that region, that take part
    purpose: Name | Literal[""]
    hour: int  # of the day, UTC
    rule: str


class Shard(Noun):
    """An equal-sized run of preprocessed records, named by the digest of its Arrow bytes."""

    digest: str
    rows: int
    bytes: int  # of the Arrow stream, before compression
    raw_bytes: int  # of the records alone, as they would be sent raw
    origin: Name
    source: str
    first_row: int  # position in the source's preprocessed records


class CodecTrial(Noun):
    """What a codec did to one real shard of a source, on one core where the data was born."""

    codec: str
    ratio: float  # bytes before over bytes after
    compress_bytes_per_second: float  # of bytes before
    decompress_bytes_per_second: float


class VariantCard(Noun):
    """What a published variant is and how well it was measured to do, on the runtime that executes it."""

    model: Name
    version: str
    tier: Tier
    recipe: str
    runtime: str
    runtime_version: str
    key: str  # of the model file in the store
    digest: str
    bytes: int
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    temperature: float
    calibration_rows: int = 0  # that the temperature was fitted on; 0: on the validation rows, as once was done
    validation_rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    class_accuracy: tuple[float, ...]
    agreement: float  # with the cloud variant, on the validation rows
    made_seconds: float
    same_net_as: str = ""  # digest of the variant of which this is the same net in another file, for another runtime
    name: Name = ""  # of the variant, in its version; default: the tier
    recipe_steps: tuple[dict[str, str | int | float], ...] = ()  # `step` and its settings, in order
    stored_bytes: int = 0  # of the packed file in the store; 0: it lies there as it is
    published_at: float = 0.0
    signature: str = ""  # of the model's function, such as `uint8[28,28,1] -> float32[10]`
    lowest_runtime: str = ""  # that loads it, as its file says; empty: not known
    runs_on: dict[str, str] = Field(default_factory=dict)  # runtime and version, each judged on the validation rows
    refused_by: dict[str, str] = Field(default_factory=dict)  # runtime that must not execute it, and the reason
    calibration_error: float | None = None  # expected, after temperature scaling
    class_drop: tuple[float, ...] = ()  # of accuracy to the cloud variant's, by class
    latency_seconds: float | None = None  # of one row, and
    rows_per_second: float | None = None  # of one thread, on the machine that judged it
    sparsity: float | None = None  # share of weights that are zero
    preprocessing: str = ""  # digest of what its records went through
    training_digest: str = ""  # of the training data
    teacher_digest: str = ""  # of the variant that it was distilled from or is compared with
    made_from: str = ""  # digest of the model that was compressed
    golden_digest: str = ""  # of the rows and logits for the self-test; empty: it has none

    @model_validator(mode="before")
    @classmethod
    def _name_it(cls, data: object) -> object:
        if isinstance(data, dict) and not data.get("name"):
            return {**data, "name": data.get("tier", "")}
        return data

    @property
    def answering(self) -> str:
        """What the variant's answers depend on, for their names: its bytes, and the temperature of its confidence."""
        return f"{self.digest}@{self.temperature!r}"


class Pointed(Noun):
    """What the sites of a group were told to answer with, when, and by whom."""

    model: Name
    group: Name
    serial: int = Field(ge=1)
    version: str  # empty: what the catalog trains
    variant: str
    digest: str
    by: str
    at: float
    back: bool = False  # a rollback, to what stood before the one before


class Budget(Noun):
    """What a compressed variant may cost, and how long the search for it may take; None: no bound."""

    max_bytes: int | None = Field(default=None, ge=1)  # as it is sent
    max_ms: float | None = Field(default=None, gt=0)  # for one row, on the machine that judges
    minutes: float = Field(default=60.0, gt=0)  # after which no new step is begun


class CompressionJob(Noun):
    """A model that is to be compressed, and all that a trial needs to know."""

    bucket: str
    model: Name
    version: str
    dataset: Dataset
    classes: tuple[str, ...]
    seed: int
    gate: Gate
    original: VariantCard
    keras: str  # key of the model in Keras's own format; empty: only the SavedModel of `original` is there


class Trial(Noun):
    """What became of one recipe."""

    recipe: Name
    digest: str  # of model, data, steps, their settings and their code
    status: Literal["measured", "published", "refused", "failed", "untried"]
    reason: str = ""
    card: VariantCard | None = None
    inside_budget: bool = False
    faults: tuple[str, ...] = ()  # what no bound excuses
    seconds: float = 0.0  # of the steps that this search had to do
    reused: bool = False  # nothing was to be done


class CompressionReport(Noun):
    """A search as a person reads it."""

    model: Name
    version: str
    dataset: Name
    original: VariantCard
    gate: Gate
    budget: Budget
    trials: tuple[Trial, ...]
    recommended: str = ""  # the variant inside the budget with the fewest bytes to send
    started: float
    seconds: float
    report_key: str
    access: tuple[AccessDecision, ...] = ()  # what let it use the dataset


class Spread(Noun):
    """How far measurements of a quantity lie apart; its mean is the field of the same name."""

    variance: float = 0.0  # exponentially weighted, as is the mean
    count: int = 1  # measurements
    at: float = 0.0  # the last one


class VariantSpeed(Noun):
    """How fast one site runs one variant, measured through the runtime that the engine uses there."""

    rows_per_second: float  # of one thread
    batch: int
    startup_seconds: float
    runtime: str = ""  # that it was measured with
    probed_rows_per_second: float = 0.0  # as the probe measured it, runs refine the above; 0: the same
    spreads: dict[str, Spread] = Field(default_factory=dict)  # by field


class Profile(Noun):
    """What was measured of a site."""

    site: Name
    host: str
    cores: int
    memory_bytes: int
    memory_free_bytes: int = 0  # when it was measured; 0: not known
    disk_free_bytes: int
    up_bytes_per_second: float
    down_bytes_per_second: float
    latency_seconds: float  # of reading or writing an object, however small
    dispatch_seconds: float  # from handing over a work order to its receipt, without the work on shards
    variants: dict[str, VariantSpeed] = Field(default_factory=dict)  # by digest
    refused: dict[str, str] = Field(default_factory=dict)  # digest and runtime: why the site cannot run it
    chosen: dict[str, str] = Field(default_factory=dict)  # model's version: digest of the variant that it answers with
    good: dict[Name, str] = Field(default_factory=dict)  # by model: version and variant that it answered with last
    runtime_versions: dict[str, str] = Field(default_factory=dict)
    missing_codecs: tuple[str, ...] = ()  # whose package is not installed there
    measured_at: float = 0.0
    probe_seconds: float = 0.0  # what measuring took, and
    probe_bytes: int = 0  # what it sent over the link, the variant included
    spreads: dict[str, Spread] = Field(default_factory=dict)  # by field


class Cascade(Noun):
    """Which rows the edge keeps: those whose calibrated confidence reaches the threshold."""

    threshold: float
    temperature: float
    bound: float  # how far below cloud-only the accuracy may lie, as the user said
    allowance: float  # how far below cloud-only the accuracy on the validation rows may lie, for the bound to hold
    escalation: float  # predicted share of rows
    validation_rows: int
    validation_accuracy: float
    validation_cloud_accuracy: float
    confidence: float = 0.0  # probability with which the bound holds; 0: chosen with a margin, nothing is promised
    kept_losses: int = 0  # validation rows that the edge keeps, where it is wrong and the cloud right,
    kept_gains: int = 0  # and where it is right and the cloud wrong
    calibrated: tuple[tuple[float, float], ...] = ()  # confidences, and shares of validation rows below each


class EscalationBudget(Noun):
    """Most that the escalations of a run may take; None: no limit."""

    rows: float | None = Field(default=None, ge=0)
    bytes: float | None = Field(default=None, ge=0)  # as they are sent, over all links
    seconds: float | None = Field(default=None, ge=0)  # of each link
    money: float | None = Field(default=None, ge=0)  # for sending and answering them, at the sites' prices
    sites: dict[Name, EscalationBudget] = Field(default_factory=dict)  # what each edge of these may take of it


class Placement(Noun):
    """Where one shard is answered, and why."""

    shard: Shard
    site: Name
    variant: str  # digest
    codec: str
    key: str  # of the compressed shard in the store
    result: str  # key of the result in the ledger
    reused: bool  # the ledger held the result when the plan was made
    reason: str


class Plan(Noun):
    """Shard to site, with what it should cost."""

    run_id: str
    dataset: Name
    model: Name
    version: str
    preprocessing: str  # digest
    created: float
    cascade: Cascade  # of `variants.edge`
    variants: dict[Tier, VariantCard]  # the tier's own where a site uses it; the first cloud's answers what escalates
    cards: dict[Name, VariantCard]  # by site: what it answers with, and the runtime that executes it there
    cascades: dict[str, Cascade]  # by digest of an edge variant
    batch_sizes: dict[str, int]  # by site
    placements: tuple[Placement, ...]
    fingerprints: dict[str, str]  # by source: of the index that the placements are from
    predicted_seconds: float
    predicted_site_seconds: dict[str, float]
    predicted_wan_bytes: int
    reasons: dict[str, str]  # by site
    fallbacks: dict[str, str] = Field(default_factory=dict)  # by site: why it answers with an earlier variant
    lossy_error: float = 0.0  # the largest by which lossy coding changed a value, as measured
    budget: EscalationBudget | None = None  # of the escalations
    objective: Objective = "makespan"  # that was made least, and
    caps: dict[Objective, float] = Field(default_factory=dict)  # what each may be at most
    accuracy_floor: float = 0.0  # the least expected accuracy, by rows; 0: none
    totals: dict[Objective, float] = Field(default_factory=dict)  # of what is computed, as the programme reckons
    lower_bound: float = 0.0  # of the objective, over all placements; 0: not known
    gap: float | None = None  # how far the objective lies above it, as a share of it; None: not known
    balance: float = 1.0  # Jain's index of the seconds of all sites that may answer shards
    access: tuple[AccessDecision, ...] = ()  # what lets the run use the dataset
    record_bytes: float = 0.0  # of a row that is escalated, as it is sent


class OrderedShard(Noun):
    """One shard of a work order: where it lies and what its result is called."""

    key: str
    digest: str
    rows: int
    bytes: int  # before compression
    codec: str
    result: str
    local: bool  # reading it crosses no link of the site


class EscalationOrder(Noun):
    """What the edge does with rows under the threshold: packs them for the cloud."""

    threshold: float
    temperature: float
    codec: str
    cloud_variant: str  # `VariantCard.answering`
    preprocessing: str
    shard_set: str = ""  # what the packed rows are encrypted as, if they are: see `infra/security/access.py`
    recipients: tuple[Name, ...] = ()  # who has to read them, beside the site itself
    held: bool = False  # nothing is sent yet: which rows go is chosen when all sites have answered
    # Rows that are sent, as (number of the shard in the order, row of the shard), those that gain most first; none: all
    # under the threshold.
    picked: tuple[tuple[int, int], ...] = ()
    most_bytes: int | None = None  # that may be sent of them; None: no limit


class WorkOrder(Noun):
    """Self-contained instructions for one site."""

    run_id: str
    order_id: str
    site: Name
    tier: Tier
    card: VariantCard
    batch: int
    threads: int
    shards: tuple[OrderedShard, ...]
    escalation: EscalationOrder | None = None
    fallback: str = ""  # why it answers with an earlier variant than it was told to
    watched: bool = False  # whether the site says how far it is, and asks whether shards were withdrawn
    access: AccessDecision | None = None  # that it may be given, as judged when it was written


class Escalated(Noun):
    """Rows of one shard that the edge was unsure of, packed for the cloud."""

    shard: str  # the result key of the edge's answer
    key: str
    digest: str
    rows: int
    bytes: int  # before compression
    codec: str
    result: str  # key of the cloud's answer in the ledger
    sent: bool = True  # False: the store could not be reached; a later order sends them


class WrappedKey(Noun):
    """The data key of a set of encrypted objects, for one site: see `infra/security/access.py`."""

    key_id: str  # 64 hexadecimal digits
    what: str  # the set, in words
    site: Name
    pair: str  # SHA-256 of the public key (DER) that it is wrapped with
    scheme: Literal["RSA-OAEP-SHA256"] = "RSA-OAEP-SHA256"
    wrapped: str  # Base64


class Span(Noun):
    """A stretch of work, for the timeline."""

    stage: str
    site: str
    start: float
    end: float


class Receipt(Noun):
    """What a site really did for one work order."""

    run_id: str
    order_id: str
    site: Name
    tier: Tier
    variant: str = ""  # digest of what answered, and
    fallback: str = ""  # why it was an earlier one than the site was told to use
    started: float
    finished: float
    shards: int
    rows: int
    computed_results: int
    reused_results: int
    escalated: tuple[Escalated, ...]
    held_rows: int = 0  # that should have been escalated and were not, because of the budget
    seconds: dict[str, float]  # busy time by stage, summed over threads
    startup_seconds: float
    bytes_in: int  # everything the site read
    bytes_out: int  # everything it wrote
    model_bytes: int = 0  # of what it read: the variant
    wan_in: int  # the part that crossed its link
    wan_out: int
    spans: tuple[Span, ...]
    withdrawn: tuple[str, ...] = ()  # results of the order that it was told to leave to others, and did
    lost: str = ""  # why the site gave no receipt, and the coordinator wrote this one from the ledger


class Replanned(Noun):
    """One change of a plan while the run was under way."""

    at: float
    why: str
    moved: int  # shards that were given to other sites
    duplicated: int  # shards that an idle site was asked to answer as well
    plan: str  # key of the plan as it was from then on


class Drift(Noun):
    """Whether an edge's data look to its variant as those did that the cascade was calibrated with."""

    rows: int  # looked at
    distance: float  # largest difference between the shares of rows below any confidence
    distance_p: float  # probability of such a distance or a larger one if nothing has changed
    escalation: float  # share of rows under the threshold
    escalation_p: float  # probability of a share at least so far from the calibrated one if nothing has changed
    flagged: bool
    reason: str


class SiteReport(Noun):
    """One line of the report's table of sites."""

    name: Name
    tier: Tier
    shards: int
    rows: int
    seconds: float
    predicted_seconds: float
    bytes_in: int
    bytes_out: int
    wan_bytes: int
    computed_results: int
    reused_results: int
    reason: str
    variant: str = ""  # digest of what it answers with, and
    runtime: str = ""  # what executes that
    fallback: str = ""  # why it answers with an earlier variant than it was told to
    threshold: float | None = None  # under which its rows escalate; None in the cloud
    drift: Drift | None = None  # None: there was nothing to compare


class Report(Noun):
    """The run as a person reads it. Its keys are a contract: see `docs/report.md`."""

    schema_version: int = REPORT_SCHEMA_VERSION
    run_id: str
    status: Literal["complete", "partial"]  # partial: rows are missing, or may be
    dataset: Name
    model: Name
    model_version: str
    started: float
    rows_in: int
    quarantined_rows: int = 0  # left out because they do not fit the schema; not part of `rows_in`
    rows_out: int
    missing_rows: int
    duplicate_rows: int
    escalated_rows: int
    held_rows: int = 0  # unsure rows that the budget kept at the edge; its answer stands
    predicted_escalated_rows: int
    scored_rows: int
    accuracy: dict[Literal["cascade", "cloud_only", "edge_only"], float | None]
    accuracy_interval: dict[Literal["cascade", "cloud_only", "edge_only"], tuple[float, float] | None]
    cascade: Cascade
    raw_bytes: int
    wan_bytes: int
    predicted_wan_bytes: int
    probe_bytes: int  # over the links to measure new sites: once a site and variant, not part of `wan_bytes`
    model_bytes: int
    computed_results: int
    reused_results: int
    seconds: dict[str, float]
    predicted_seconds: float
    actual_seconds: float
    total_seconds: float
    sites: tuple[SiteReport, ...]
    spans: tuple[Span, ...]
    variants: dict[Tier, VariantCard]
    predictions: tuple[str, ...]  # keys of the Parquet files
    report_key: str
    flow_run: str = ""
    other_variants: tuple[VariantCard, ...] = ()  # that sites used beside `variants`
    objective: Objective = "makespan"  # that the plan made least, and
    caps: dict[Objective, float] = Field(default_factory=dict)  # what each might be at most
    accuracy_floor: float = 0.0  # the least expected accuracy that was asked for; 0: none
    predicted_totals: dict[Objective, float] = Field(default_factory=dict)  # of what was computed
    lower_bound: float = 0.0  # of the objective, over all placements; 0: not known
    gap: float | None = None  # how far the plan lies above it, as a share of it; None: not known
    balance: float = 1.0  # Jain's index of the predicted seconds of all sites that may answer shards
    access: tuple[AccessDecision, ...] = ()  # what let the run use the dataset, a decision for each region of its sites
    replanned: tuple[Replanned, ...] = ()  # how the plan was changed while the run was under way
    pending_rows: int = 0  # unsure rows that wait for the cloud; the edge's answer stands for now
    open_reasons: dict[str, str] = Field(default_factory=dict)  # by site, or `escalations`: why an order did not end
    missing_key: str = ""  # of the Parquet file that names the missing rows; empty: there are none
    unseen_sources: dict[Name, str] = Field(
        default_factory=dict
    )  # what they hold now is not known; why, and what was done
    settled_at: float | None = None  # when what had been left open was done, at last
    earlier_reports: tuple[str, ...] = ()  # keys of what was reported before that
