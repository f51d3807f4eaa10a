"""The ClassifierExpansion resource as users write it. The CustomResourceDefinition is generated from these classes."""

import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from expansion_contract.schema import Lenient, Rule, Strict

GROUP = "classifierexpansion.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ClassifierExpansion"
PLURAL = "classifierexpansions"
FINALIZER = f"{GROUP}/storage"
"""Only on resources whose storage goes with them."""
RETRAIN_ANNOTATION = f"{GROUP}/retrain-requested-at"
"""On a resource; another value asks for one more run."""

MAX_NAME = 44
"""A Job is called `<name>-<10 digits of the run id>` and its pods add six characters more; 63 is Kubernetes' limit for a label."""

LOCATION_PATTERN = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?|file://.+|\.{0,2}/.*)$"
Location = Annotated[str, StringConstraints(pattern=LOCATION_PATTERN, max_length=1024)]
"""`s3://bucket/prefix/` anywhere, or a local folder for the command line."""

CategoryName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+(s|m|h|d))+$", max_length=32)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Ratio = Annotated[float, Field(ge=0, le=1)]
LabelText = Annotated[str, StringConstraints(max_length=253)]


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: Duration) -> float:
    """5400 for 1h30m."""
    return float(
        sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", duration))
    )


def in_the_cluster_only(path: str, field: str) -> Rule:
    return Rule(
        cel=f"self.{field}.startsWith('s3://')",
        message=f"spec.{path} must be an s3:// address; a local folder works only with the command line",
    )


class Mode(StrEnum):
    EXPAND = "Expand"
    REPLACE = "Replace"


class OnOverlap(StrEnum):
    REFUSE = "Refuse"
    KEEP_BOTH = "KeepBoth"
    MERGE = "Merge"
    REPLACE = "Replace"


class Solver(StrEnum):
    AUTO = "Auto"
    SOFTMAX = "Softmax"
    DISCRIMINANT = "Discriminant"
    GRADIENT_DESCENT = "GradientDescent"


class ServingMode(StrEnum):
    MANAGED = "Managed"
    NONE = "None"


class Strategy(StrEnum):
    IMMEDIATE = "Immediate"
    CANARY = "Canary"


class DeletionPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class Checksums(StrEnum):
    WHEN_REQUIRED = "WhenRequired"
    WHEN_SUPPORTED = "WhenSupported"


class Addressing(StrEnum):
    PATH = "Path"
    VIRTUAL = "Virtual"


class Weights(Strict):
    """Exactly one of `name` and `uri`."""

    name: Literal["imagenet"] | None = None
    """Published weights: from the package that carries them (EfficientNetLite0), else downloaded by Keras."""
    uri: (
        Annotated[
            str,
            StringConstraints(
                pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+|file:///.+|\.{0,2}/.+)$", max_length=1024
            ),
        ]
        | None
    ) = None
    """A Keras weights file of the complete network with its top, for example s3://models/inception_v3.h5."""
    sha256: Sha256 | None = None
    """The file's SHA-256; required with `uri`. A file with another digest is refused."""

    rules: ClassVar = (
        Rule(
            cel="has(self.name) != has(self.uri)",
            message="spec.base.pretrained.weights needs exactly one of name and uri",
            holds=lambda w: (w.name is None) != (w.uri is None),
        ),
        Rule(
            cel="has(self.uri) == has(self.sha256)",
            message="spec.base.pretrained.weights.sha256 is required with uri (and only with it): sha256sum prints it",
            holds=lambda w: (w.uri is None) == (w.sha256 is None),
        ),
    )


class Pretrained(Strict):
    architecture: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=64)] = (
        "InceptionV3"
    )
    """EfficientNetLite0 or the name of a classifier of keras.applications, for example InceptionV3 or MobileNetV2."""
    weights: Weights = Weights(name="imagenet")
    """Where the network's weights come from."""


class ExpansionRef(Strict):
    name: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
    """A ClassifierExpansion of the same namespace."""


class PublishedModel(Strict):
    uri: Location
    """The folder of one published version, for example s3://models/cars/versions/7."""

    rules: ClassVar = (in_the_cluster_only("base.model.uri", "uri"),)


class GivenPack(Strict):
    uri: Location
    """The folder of a pack that `expansion pack build` made for these very weights."""

    rules: ClassVar = (in_the_cluster_only("base.pack.uri", "uri"),)


class Base(Strict):
    """What is grown: exactly one of pretrained, expansionRef and model."""

    pretrained: Pretrained | None = None
    """A pretrained network with its thousand ImageNet categories."""
    expansion_ref: ExpansionRef | None = None
    """Grow what another expansion published."""
    model: PublishedModel | None = None
    """Grow one published version."""
    pack: GivenPack | None = None
    """Statistics and a few real bottlenecks of the pretrained network's own categories. A published version carries its own."""

    rules: ClassVar = (
        Rule(
            cel="[has(self.pretrained), has(self.expansionRef), has(self.model)].filter(given, given).size() == 1",
            message="spec.base needs exactly one of pretrained, expansionRef and model",
            holds=lambda b: [b.pretrained, b.expansion_ref, b.model].count(None) == 2,
        ),
        Rule(
            cel="!has(self.pack) || has(self.pretrained)",
            message="spec.base.pack goes with spec.base.pretrained only: a published version carries its own pack",
            holds=lambda b: b.pack is None or b.pretrained is not None,
        ),
    )


class Overlap(Strict):
    category: CategoryName
    """The new category's name."""
    on_overlap: OnOverlap
    """What to do about this one."""


class Categories(Strict):
    images: Location
    """One folder per category below this address; the folder's name is the category."""
    include: Annotated[
        list[CategoryName], Field(max_length=10000, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = []
    """Only these folders. Empty: all of them."""
    on_overlap: OnOverlap = OnOverlap.REFUSE
    """A new category the base already knows, by name or by its answers: Refuse stops before training; KeepBoth keeps two categories;
    Merge lets the new images count for the base's category; Replace retires the base's category in favour of the new one."""
    overlaps: Annotated[
        list[Overlap],
        Field(
            max_length=1000,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["category"]},
        ),
    ] = []
    """Exceptions from onOverlap for single categories."""
    unknown_images: Location | None = None
    """Pictures of backgrounds and of other things: they become a category of their own, named unknown."""

    rules: ClassVar = (
        in_the_cluster_only("categories.images", "images"),
        Rule(
            cel="!has(self.unknownImages) || self.unknownImages.startsWith('s3://')",
            message="spec.categories.unknownImages must be an s3:// address; a local folder works only with the command line",
        ),
    )


class Replay(Strict):
    images: Location
    """Images of base categories, one folder each, named by the category or its WordNet id. One image per category helps."""

    rules: ClassVar = (in_the_cluster_only("replay.images", "images"),)


class Unlabelled(Strict):
    images: Location
    """Arbitrary photographs in any folders. A few hundred replace images of the base categories well."""

    rules: ClassVar = (in_the_cluster_only("unlabelled.images", "images"),)


class Split(Strict):
    validation_percent: Annotated[int, Field(ge=5, le=40)] = 10
    """Held out for choosing and calibrating."""
    test_percent: Annotated[int, Field(ge=5, le=50)] = 10
    """Held out for the report and the gate. The content of an image decides its side, so renaming moves nothing."""


class Distortions(Strict):
    """Distorted copies of images on the training side, drawn from the seed and the image's content. Mirror only what means the same
    mirrored: letters and digits do not."""

    random_crop_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """How much larger than the crop the image is made."""
    random_scale_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """How much the scale varies."""
    random_brightness_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """How much the brightness varies."""
    flip_left_right: bool = False
    """Mirror every second copy, beginning with the first."""
    copies: Annotated[int, Field(ge=1, le=32)] = 4
    """Copies of each image on the training side when any distortion is on: of new categories, replay and unlabelled photographs."""

    @property
    def is_on(self) -> bool:
        percents = (self.random_crop_percent, self.random_scale_percent, self.random_brightness_percent)
        return self.flip_left_right or any(percents)


class GradientDescent(Strict):
    """retrain.py's own solver."""

    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 4000
    """Training steps."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.01
    """Constant learning rate."""
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Images per step."""


class RandomProjection(Strict):
    """New rows see the bottleneck and, beside it, random features of it; the base's rows see the bottleneck alone, as before."""

    dimensions: Annotated[int, Field(ge=64, le=20_000)] = 4096
    """How many random features."""


class Head(Strict):
    solver: Solver = Solver.AUTO
    """How the new rows are fitted. Softmax: regularised log-likelihood. Discriminant: closed form, the same in any order of arrival.
    GradientDescent: as retrain.py did it. Auto: the best of Softmax and Discriminant on validation images, at equal steals."""
    gradient_descent: GradientDescent | None = None
    """Settings of the solver GradientDescent."""
    random_projection: RandomProjection | None = None
    """Optional: for new categories that the bottleneck alone does not separate. Auto takes it only where it is ahead; a later expansion
    of the published version may use another one, or none: all added rows are solved again."""

    rules: ClassVar = (
        Rule(
            cel="!has(self.gradientDescent) || (has(self.solver) && self.solver == 'GradientDescent')",
            message="spec.training.head.gradientDescent goes with solver: GradientDescent only",
            holds=lambda h: h.gradient_descent is None or h.solver is Solver.GRADIENT_DESCENT,
        ),
        Rule(
            cel="!has(self.randomProjection) || !has(self.solver) || self.solver != 'Discriminant'",
            message="spec.training.head.randomProjection goes with solver: Auto, Softmax or GradientDescent: Discriminant is solved from"
            " sums over bottlenecks, which say nothing of their projections",
            holds=lambda h: h.random_projection is None or h.solver is not Solver.DISCRIMINANT,
        ),
    )


class Unknown(Strict):
    """Pictures of nothing the model knows. Every answer carries its outcome (known, unsure or unknown) beside the names."""

    coverage_percent: Annotated[float, Field(ge=50, le=99.9)] = 95.0
    """How many held-out images of known categories the thresholds must let through."""
    in_answers: bool = False
    """Put the word unknown in the place of the first name when that is the outcome."""


class FineTune(Strict):
    from_layer: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """The first layer that is trained."""
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    """Passes over the training images."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.0001
    """Initial learning rate."""


class Training(Strict):
    head: Head = Head()
    """The linear classifier on bottlenecks."""
    steal_budget_percent: Annotated[float, Field(ge=0, le=100)] = 0.5
    """How many images of base categories may at most be answered with a new category."""
    unknown: Unknown = Unknown()
    """What is said of pictures that show nothing the model knows."""
    fine_tune: FineTune | None = None
    """Train the backbone's last layers too."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Same inputs and seed give the same model."""


class Acceptance(Strict):
    """The gate: what a model must reach on test images to be published. Editing it never trains."""

    minimum_accuracy: Ratio | None = None
    """Over all test images, base and new."""
    minimum_new_category_accuracy: Ratio | None = None
    """Over test images of the new categories, against all categories."""
    maximum_base_accuracy_drop: Ratio | None = 0.01
    """How much accuracy the base categories may lose; estimated, and said so, where no base images exist."""
    minimum_category_recall: Ratio | None = None
    """The worst new category."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """When set, the interval's bound at this confidence is compared, not the point."""


class Toleration(Strict):
    key: LabelText | None = None
    """The taint's key."""
    operator: Literal["Exists", "Equal"] | None = None
    """How the value is compared; empty: Equal. No default may stand inside a list: Argo CD compares lists as wholes."""
    value: LabelText | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; empty for all."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long a NoExecute taint is tolerated."""


Quantities = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=128)],
        Annotated[
            str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", max_length=32)
        ],
    ],
    Field(max_length=16),
]
Labels = Annotated[dict[Annotated[str, StringConstraints(max_length=317)], LabelText], Field(max_length=32)]


class Resources(Strict):
    requests: Quantities = {"cpu": "2", "memory": "4Gi"}
    """What the trainer asks for beside its GPUs."""
    limits: Quantities = {"memory": "8Gi"}
    """What the trainer may use at most."""


class PodTemplate(Strict):
    """Where and how the training pod runs."""

    labels: Labels = {}
    """Added to the pod."""
    annotations: Annotated[
        dict[
            Annotated[str, StringConstraints(max_length=317)],
            Annotated[str, StringConstraints(max_length=4096)],
        ],
        Field(max_length=32),
    ] = {}
    """Added to the pod."""
    node_selector: Labels = {}
    """Node labels the pod needs."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = []
    """Taints the pod tolerates."""
    priority_class_name: LabelText | None = None
    """The pod's priority."""
    runtime_class_name: LabelText | None = None
    """The pod's runtime, for example nvidia."""
    image_pull_secrets: Annotated[list[LabelText], Field(max_length=8)] = []
    """Secrets for pulling the trainer image."""
    resources: Resources = Resources()
    """CPU and memory."""


class Compute(Strict):
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Pods that extract bottlenecks side by side."""
    gpus_per_worker: Annotated[int, Field(ge=0, le=16)] = 1
    """GPUs of each pod; 0 trains on CPUs."""
    gpu_resource: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9.-]+/[a-zA-Z0-9._-]+$", max_length=128)
    ] = "nvidia.com/gpu"
    """The extended resource that stands for a GPU."""
    pod_template: PodTemplate = PodTemplate()
    """Where and how the training pod runs."""
    queue_name: Annotated[
        str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=63)
    ] = ""
    """A LocalQueue of Kueue's in this namespace: the run starts when Kueue admits it."""
    backoff_limit: Annotated[int, Field(ge=0, le=20)] = 3
    """How often a pod that died of its own is started again. Evictions do not count. An edit reaches the run under way."""
    active_deadline_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = 86400
    """A run may take this long. An edit reaches the run under way."""
    pending_deadline_seconds: Annotated[int, Field(ge=30, le=604_800)] = 3600
    """A run may wait this long for a node and its image."""
    no_progress_deadline_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3600
    """A run that says nothing new for so long hangs, and is stopped."""


class Output(Strict):
    models: Location
    """Where runs, versions and serving.json are kept; belongs to this resource alone."""
    keep_versions: Annotated[int, Field(ge=2, le=1000)] = 5
    """Older published versions are removed; the served one never."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """What becomes of runs, versions and serving.json when this resource is deleted. Retain: they stay, and a resource of the same name
    takes them up again. Delete: they are removed first; what cannot be removed within ten minutes is left and named in an Event."""

    rules: ClassVar = (
        in_the_cluster_only("output.models", "models"),
        Rule(
            cel="self.models == oldSelf.models",
            message="spec.output.models cannot be changed: versions are numbered there; create another resource instead",
        ),
    )


class Rollout(Strict):
    strategy: Strategy = Strategy.IMMEDIATE
    """Immediate switches each model server as soon as it has verified the new version."""


class Serving(Strict):
    mode: ServingMode = ServingMode.MANAGED
    """Managed runs model servers; None only publishes."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Model servers. Left out, the operator leaves their number to others, such as a HorizontalPodAutoscaler: it begins with 1."""
    version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Serve this published version, whatever is newer. Going back needs no training; without it the newest accepted one is served."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] = "tensorflow/serving:2.20.0"
    """The TensorFlow Serving image."""
    rollout: Rollout = Rollout()
    """How a new version reaches the servers."""
    resources: Resources = Resources(requests={"cpu": "500m", "memory": "1Gi"}, limits={"memory": "4Gi"})
    """CPU and memory of the model server."""


class OnBaseChange(StrEnum):
    RETRAIN = "Retrain"
    REPORT = "Report"


class UpdatePolicy(StrEnum):
    REPLACE = "Replace"
    FINISH = "Finish"


def _cron_field(value: str) -> str:
    item = rf"([*]|({value})(-({value}))?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_CRON_FIELDS = " +".join(
    _cron_field(value)
    for value in (
        "[0-5]?[0-9]",
        "[01]?[0-9]|2[0-3]",
        "0?[1-9]|[12][0-9]|3[01]",
        "0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC",
        "[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT",
    )
)
CRON_PATTERN = rf"^((?i:{_CRON_FIELDS})|@(hourly|daily|midnight|weekly|monthly|yearly|annually))$"
"""The same to Python and to CEL."""


class Retrain(Strict):
    poll_interval: Duration = "10m"
    """How often the images are listed again; changed images start a new run."""
    settle: Duration = "30s"
    """A run starts when no image has arrived for so long, or after ten times as long: uploads end first."""
    max_runs_per_day: Annotated[int, Field(ge=1, le=100)] | None = None
    """Of any 24 hours, whatever asks for them: images, edits, revision, the annotation, a base. Retries of a run's pod do not count."""
    revision: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Raise it to train again with nothing else changed."""
    on_base_change: OnBaseChange = OnBaseChange.RETRAIN
    """When the expansion that spec.base.expansionRef names publishes a new version: grow that one, or only say so."""
    update_policy: UpdatePolicy = UpdatePolicy.REPLACE
    """When something changes while a run is under way. Replace: it is stopped, what it computed of the images is kept.
    Finish: it ends first and is published if it passes the gate; then the new one starts."""
    schedule: Annotated[str, StringConstraints(max_length=128)] = ""
    """Asks for one more run at these times: five cron fields (minute hour day-of-month month day-of-week), for example `0 3 * * MON`,
    or @hourly, @daily, @weekly, @monthly, @yearly. A time that comes while a run is under way waits for its end; of times that
    passed while the operator was away or the resource suspended, the newest alone counts."""
    time_zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]+$", max_length=64)] = "UTC"
    """Of `schedule`: an IANA name, for example Europe/Berlin."""

    rules: ClassVar = (
        Rule(
            cel=f"!has(self.schedule) || self.schedule == '' || self.schedule.matches('{CRON_PATTERN}')",
            message="spec.retrain.schedule must be five cron fields (minute hour day-of-month month day-of-week), for example"
            " '0 3 * * MON', or one of @hourly, @daily, @weekly, @monthly, @yearly",
            holds=lambda r: not r.schedule or re.fullmatch(CRON_PATTERN, r.schedule) is not None,
        ),
    )


class Storage(Strict):
    secret_name: Annotated[str, StringConstraints(max_length=253)] = ""
    """A Secret of this namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Empty: the pods' own identity."""
    endpoint_url: Annotated[
        str, StringConstraints(pattern=r"^(https?://[^\s/?#]+(:[0-9]+)?/?)?$", max_length=512)
    ] = ""
    """Of an S3-compatible store; empty for Amazon's."""
    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]*$", max_length=64)] = ""
    """Empty: us-east-1."""
    addressing: Addressing = Addressing.PATH
    """Path asks for endpoint/bucket, Virtual for bucket.endpoint. Amazon's takes both."""
    ca_secret_name: Annotated[str, StringConstraints(max_length=253)] = ""
    """A Secret of this namespace whose ca.crt signs the endpoint's certificate."""
    checksums: Checksums = Checksums.WHEN_REQUIRED
    """WhenSupported sends CRC trailers that several S3-compatible stores do not understand."""
    cache: Location | None = None
    """Where bottlenecks are cached. Empty: bottleneck-cache/ in the bucket of output.models, shared by all who write there."""

    rules: ClassVar = (
        Rule(
            cel="!has(self.cache) || self.cache.startsWith('s3://')",
            message="spec.storage.cache must be an s3:// address; a local folder works only with the command line",
        ),
    )


class ExpansionSpec(Strict):
    mode: Mode = Mode.EXPAND
    """Expand: base and new categories. Replace: the new categories only, as retrain.py did."""
    base: Base = Base(pretrained=Pretrained())
    """What is grown."""
    categories: Categories
    """What is added."""
    replay: Replay | None = None
    """Images of base categories, if any are at hand."""
    unlabelled: Unlabelled | None = None
    """Arbitrary photographs, if any are at hand."""
    split: Split = Split()
    """Which images are never trained on."""
    distortions: Distortions = Distortions()
    """Distorted copies of images that rows are fitted on."""
    training: Training = Training()
    """How the head is fitted."""
    acceptance: Acceptance = Acceptance()
    """What a model must reach to be published."""
    compute: Compute = Compute()
    """The Job that trains."""
    output: Output
    """Where models go."""
    serving: Serving = Serving()
    """The model servers."""
    retrain: Retrain = Retrain()
    """When to train again."""
    storage: Storage = Storage()
    """How to reach the object store."""
    suspend: bool = False
    """Stops a run and starts none; what is served stays served."""


class Condition(Lenient):
    type: Annotated[str, StringConstraints(max_length=316)]
    """DatasetResolved, Trained, Accepted, Published, Serving, Ready, Suspended; Reconciling, Stalled and BaseChanged only while true."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, StringConstraints(max_length=1024)]
    """One word for programs."""
    message: Annotated[str, StringConstraints(max_length=32768)] = ""
    """What happened and what to do, for people."""
    last_transition_time: Annotated[str, StringConstraints(max_length=64)]
    """When `status` last changed, RFC 3339."""
    observed_generation: int = 0
    """The generation it was computed from."""


Text = Annotated[str, StringConstraints(max_length=4096)]


class DatasetStatus(Lenient):
    digest: Text | None = None
    """Of the listing of all images."""
    images: int | None = None
    """Images of new categories."""
    categories: int | None = None
    """New categories."""
    listed_at: Text | None = None
    """When the images were last found changed, or a new listing was first needed."""
    settling_since: Text | None = None
    """While a run waits for uploads to end."""


class GrownFrom(Lenient):
    """A published version that was grown."""

    uri: Text
    """Its folder."""
    manifest_sha256: Text
    """Of its manifest.json, which names every file's digest."""
    version: int | None = None
    """Its number."""


class RunStatus(Lenient):
    id: Text
    """Digest of everything that changes the model."""
    base: GrownFrom | None = None
    """The version it grows; absent for a pretrained network."""
    job: Text | None = None
    """The Job that trains it."""
    stage: Text | None = None
    """What the trainer does now."""
    percent: int | None = None
    """Of the whole run."""
    images_per_second: Text | None = None
    """While bottlenecks are computed."""
    eta: Text | None = None
    """When it should be done, RFC 3339."""
    outcome: Literal["Succeeded", "Failed"] | None = None
    """Latched once known; a Job that is gone afterwards changes nothing."""
    reason: Text | None = None
    """Why it failed."""
    message: Text | None = None
    """What happened and what to do."""
    started_at: Text | None = None
    """When its Job was created."""
    failures: int | None = None
    """How often it failed for a reason that may pass."""
    retry_at: Text | None = None
    """When it is started again after the last of them."""
    finished_at: Text | None = None
    """When its outcome was seen."""


class Figures(Lenient):
    """Ratios as decimal strings, on test images."""

    accuracy: Text | None = None
    """Overall, base and new."""
    new_category_accuracy: Text | None = None
    """New categories against all."""
    base_accuracy: Text | None = None
    """Base categories after the expansion; absent where no base images exist."""
    base_accuracy_drop: Text | None = None
    """What the base lost; an estimate where no base images exist."""
    base_accuracy_drop_measured: bool | None = None
    """False: estimated from pictures without labels."""


class CandidateStatus(Figures):
    run_id: Text
    """The run that made it."""
    accepted: bool
    """The gate's verdict."""
    message: Text = ""
    """Why."""


class ModelStatus(Figures):
    version: int
    """The newest published version that belongs to this spec and data."""
    run_id: Text
    """The run that made it."""
    categories: int
    """Base and new."""
    uri: Text
    """Its folder."""
    base: GrownFrom | None = None
    """The version it was grown from; absent for a pretrained network."""
    published_at: Text | None = None
    """When it was published."""
    announced: int | None = None
    """What the model servers are told to serve: `version`, unless spec.serving.version names another one."""


class ServingStatus(Lenient):
    version: int | None = None
    """What the model servers answer with."""
    replicas: int = 0
    """Wanted."""
    ready_replicas: int = 0
    """Model servers that answer with `version`."""
    url: Text | None = None
    """POST images there."""


class HistoryEntry(Lenient):
    run_id: Text
    """The run."""
    outcome: Literal["Published", "Refused", "Failed"]
    """What became of it."""
    version: int | None = None
    """Its number, if published."""
    message: Text = ""
    """Why."""
    accuracy: Text | None = None
    """Overall, as a decimal string."""
    at: Text | None = None
    """When, RFC 3339."""


class ScheduleStatus(Lenient):
    asked: Text | None = None
    """The schedule and its time zone that `nextAt` follows from."""
    last_at: Text | None = None
    """The last of its times that asked for a run."""
    next_at: Text | None = None
    """When it asks for the next one, RFC 3339."""


class StartedRun(Lenient):
    started_at: Text | None = None
    """When its Job was created, RFC 3339."""
    run_id: Text | None = None
    """Which run; a run that is started again has another Job."""
    job_uid: Text | None = None
    """Of that Job, which tells it from every other one. Neither is known of what an earlier operator counted."""


class ExpansionStatus(Lenient):
    observed_generation: int = -1
    """The generation this status was computed from."""
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    """What holds."""
    phase: Text | None = None
    """One word for people; the operator never reads it."""
    dataset: DatasetStatus | None = None
    """What was found in storage."""
    run: RunStatus | None = None
    """The run for the current spec and data."""
    candidate: CandidateStatus | None = None
    """That run's model before the gate."""
    model: ModelStatus | None = None
    """What is published."""
    serving: ServingStatus | None = None
    """What is served."""
    started_runs: Annotated[list[StartedRun], Field(max_length=100)] = []
    """Jobs of the last day, oldest first, each of them once; spec.retrain.maxRunsPerDay counts them."""
    recent_runs: Annotated[list[Text], Field(max_length=100)] = []
    """No longer written: when Jobs were created that an earlier operator counted. They are taken over into startedRuns."""
    last_handled_retrain_at: Text | None = None
    """The value of the annotation classifierexpansion.dev/retrain-requested-at that the current run answers."""
    schedule: ScheduleStatus | None = None
    """The times of spec.retrain.schedule."""
    history: Annotated[list[HistoryEntry], Field(max_length=20)] = []
    """The last runs, newest first, with why each was published or refused."""


class Metadata(Lenient):
    model_config = ConfigDict(extra="allow")

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = {}
    finalizers: list[str] = []


_NAME = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")

NAME_RULE = Rule(
    cel=f"size(self.metadata.name) <= {MAX_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    message=f"metadata.name must have at most {MAX_NAME} characters, start with a letter and contain only a-z, 0-9 and '-':"
    " its Jobs and its Service are named after it",
    holds=lambda expansion: (
        len(expansion.metadata.name) <= MAX_NAME and bool(_NAME.fullmatch(expansion.metadata.name))
    ),
)


NOT_ITSELF_RULE = Rule(
    cel="!has(self.spec.base) || !has(self.spec.base.expansionRef) || self.spec.base.expansionRef.name != self.metadata.name",
    message="spec.base.expansionRef must name another ClassifierExpansion: nothing grows what it published itself",
    holds=lambda expansion: (
        expansion.spec.base.expansion_ref is None
        or expansion.spec.base.expansion_ref.name != expansion.metadata.name
    ),
)


class ClassifierExpansion(Lenient):
    """Adds categories to a pretrained image classifier and serves the result."""

    api_version: Literal["classifierexpansion.dev/v1alpha1"] = "classifierexpansion.dev/v1alpha1"
    kind: Literal["ClassifierExpansion"] = "ClassifierExpansion"
    metadata: Metadata
    spec: ExpansionSpec
    status: ExpansionStatus = ExpansionStatus()

    rules: ClassVar = (NAME_RULE, NOT_ITSELF_RULE)

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"


def parsed(body: dict[str, Any]) -> ClassifierExpansion:
    """The resource as a value. Raises pydantic.ValidationError; `problems.py` turns that into sentences."""
    return ClassifierExpansion.model_validate(body)
