"""Memory of what a router keeps: ``python -m benchmarks.book [router=marginal] [instances=512] [per_instance=60]``.

Bytes that Python has given out (``tracemalloc``) after the router was told of so many requests in flight and looked at
them, less those before. It is asked on a view of its own, so what a gateway keeps is not in it.
"""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np

from benchmarks.options import read_options
from gsim.contract.cases import active_requests, busy_view, request
from gsim.core import Placed, Randomised, Router, build


def kept_bytes(router: Router, instances: int, per_instance: int) -> int:
    """How much more is kept with so many in flight than with none."""
    view = busy_view(instances)
    seen = active_requests(instances * per_instance, instances)
    where = seen.instance.tolist()
    router.route(request(0), view)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    view.observed = lambda: seen
    for number, instance in enumerate(where):
        one = request(number, arrival_s=view.now_s)
        router.route(one, view)
        if isinstance(router, Placed):
            router.placed(one, instance)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept


def main(arguments: list[str]) -> None:
    """Measure and print."""
    options = read_options(arguments, router="marginal", instances="512", per_instance="60")
    router = build("router", options["router"])
    if isinstance(router, Randomised):
        router.seed(np.random.default_rng(0))
    instances, per_instance = int(options["instances"]), int(options["per_instance"])
    kept = kept_bytes(router, instances, per_instance)
    print(f"{options['router']}: {kept / 1e6:.1f} MB for {instances * per_instance} requests in flight, ", end="")
    print(f"{kept / (instances * per_instance):.0f} bytes each")


if __name__ == "__main__":
    main(sys.argv[1:])
