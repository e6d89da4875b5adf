"""Who asks for what, when: trace formats, arrivals, lengths, sessions, SLOs."""

from gsim.workload.arrivals import ArrivalConfig
from gsim.workload.formats.recorded import Recorded
from gsim.workload.play import Play, Turn, Wait
from gsim.workload.report import Report
from gsim.workload.slo import SessionSloRule, SloRule

__all__ = ["ArrivalConfig", "Play", "Recorded", "Report", "SessionSloRule", "SloRule", "Turn", "Wait"]
