"""How long an iteration takes: profiles in, seconds out."""

from gsim.latency.constant import ConstantTime
from gsim.latency.deployment import Deployment
from gsim.latency.domain import Domain, Extent
from gsim.latency.grid import IterationGrid
from gsim.latency.load import load_profile, profile_names, search_path
from gsim.latency.mixed import MixedCost
from gsim.latency.models import Experts, ModelShape, shape_fields
from gsim.latency.models.find import model_shape
from gsim.latency.operators.folder import operator_profile
from gsim.latency.operators.model import OperatorModel, default_capture_sizes
from gsim.latency.profile import Profile, Provenance, constant_profile, prefill_s, unloaded_latency_s
from gsim.latency.roofline import SoftRoofline

__all__ = [
    "ConstantTime",
    "Deployment",
    "Domain",
    "Experts",
    "Extent",
    "IterationGrid",
    "MixedCost",
    "ModelShape",
    "OperatorModel",
    "Profile",
    "Provenance",
    "SoftRoofline",
    "constant_profile",
    "default_capture_sizes",
    "load_profile",
    "model_shape",
    "operator_profile",
    "prefill_s",
    "profile_names",
    "search_path",
    "shape_fields",
    "unloaded_latency_s",
]
