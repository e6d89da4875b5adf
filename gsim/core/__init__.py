"""Values and seams: what everything else in gsim is said in."""

from gsim.core.batch import Batch, Chunk
from gsim.core.content import block_hashes, shared_tokens
from gsim.core.decision import HOLD, REJECT, Decision, Drain, Migration, Start, Verdict
from gsim.core.errors import ConfigError, GsimError, InputError, ProfileError, SimulationError, TraceError
from gsim.core.events import Completion, EngineEvent, EventKind, Gauges, Progress, StreamCount
from gsim.core.outcome import Outcome, Status
from gsim.core.policy_view import PolicyView
from gsim.core.protocols import (
    ArrivalObserver,
    BatchPredictor,
    Engine,
    Estimator,
    Handover,
    LatencyModel,
    Learner,
    Oracle,
    Placed,
    PoolChecker,
    Predictor,
    QuantilePredictor,
    QueueOrder,
    Randomised,
    Rectifier,
    Resting,
    Router,
    Scaler,
    Splitting,
)
from gsim.core.registry import build, entries, lookup, register
from gsim.core.request import Content, Dependency, Job, Population, Request, Session
from gsim.core.role import BOTH, DECODE, PREFILL
from gsim.core.slots import Slots, SlotState
from gsim.core.streams import Streams
from gsim.core.view import ActiveRequests, ClusterView, StaticView

__all__ = [
    "BOTH",
    "DECODE",
    "HOLD",
    "PREFILL",
    "REJECT",
    "ActiveRequests",
    "ArrivalObserver",
    "Batch",
    "BatchPredictor",
    "Chunk",
    "ClusterView",
    "Completion",
    "ConfigError",
    "Content",
    "Decision",
    "Dependency",
    "Drain",
    "Engine",
    "EngineEvent",
    "Estimator",
    "EventKind",
    "Gauges",
    "GsimError",
    "Handover",
    "InputError",
    "Job",
    "LatencyModel",
    "Learner",
    "Migration",
    "Oracle",
    "Outcome",
    "Placed",
    "PolicyView",
    "PoolChecker",
    "Population",
    "Predictor",
    "ProfileError",
    "Progress",
    "QuantilePredictor",
    "QueueOrder",
    "Randomised",
    "Rectifier",
    "Request",
    "Resting",
    "Router",
    "Scaler",
    "Session",
    "SimulationError",
    "SlotState",
    "Slots",
    "Splitting",
    "Start",
    "StaticView",
    "Status",
    "StreamCount",
    "Streams",
    "TraceError",
    "Verdict",
    "block_hashes",
    "build",
    "entries",
    "lookup",
    "register",
    "shared_tokens",
]
