"""Runs every trace with a ``Request`` that has one field more, with a default; run by test_request_field.py.

Takes the files of recorded traces as JSON (name -> path); writes, per trace, how its requests ended.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
from types import CodeType

LAST = "    priority: int = 0\n"


class Extended(importlib.machinery.SourceFileLoader):
    """Loads ``gsim.core.request`` with a further field in ``Request``."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        assert source.count(LAST) == 1, "the last field of Request has changed: name it here"
        return compile(source.replace(LAST, f"{LAST}    added: float = 0.5\n"), self.path, "exec")


class Finder:
    """Hands that one module to ``Extended``."""

    @staticmethod
    def find_spec(name: str, path: list[str] | None = None, _target: object = None) -> object:
        if name != "gsim.core.request":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = Extended(name, spec.origin)
        return spec


def main(files: dict[str, str]) -> dict[str, list[int]]:
    """Status codes by trace."""
    from gsim.cluster import Horizon, InstanceSpec, Scenario, simulate
    from gsim.core import Request, Status, Streams, build, entries
    from gsim.latency import constant_profile

    assert Request(0, 0.0, 1, 1, 1.0).added == 0.5  # type: ignore[attr-defined]
    found = {}
    for name in entries("trace"):
        fields: dict[str, object] = {"path": files[name]} if name in files else {}
        if name == "agents":
            fields["agents"] = 3
        elif name not in files or name == "servegen":
            fields["requests"] = 20  # generated traces are as long as asked for
        trace = build("trace", name, **fields)
        scenario = Scenario(
            instances=(InstanceSpec("one", constant_profile(0.001)), InstanceSpec("two", constant_profile(0.001))),
            router=build("router", "goodserve_prefix"),
            predictor=build("predictor", "noisy"),
            estimator=build("estimator", "ema"),
            rectifier=build("rectifier", "risk_monitor"),
            mechanism=build("mechanism", "token_ids"),
        )
        slo = build("slo", "fixed")
        if name == "agents":  # never ends: what is open when it is stopped is none of this test's business
            population = trace.population(Streams(0), slo)
            sessions = list(population.first)
            status = simulate(scenario, population, 0, Horizon(20.0, 20.0)).requests["status"]
            status = status[status != Status.CUT]
        else:
            sessions = list(trace.sessions(Streams(0), slo))
            status = simulate(scenario, iter(sessions), 0).requests["status"]
        assert all(job.request.added == 0.5 for session in sessions for job in session.jobs), name
        found[name] = status.tolist()
    return found


if __name__ == "__main__":
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    print(json.dumps(main(json.loads(sys.argv[1]))))
