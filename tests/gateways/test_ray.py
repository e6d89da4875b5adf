"""A router of ours inside Ray Serve's: make test-gateways."""

from __future__ import annotations

import pytest

ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")


@pytest.mark.slow
def test_replicas_are_chosen_by_the_policy():
    import asyncio

    from ray.serve.config import RequestRouterConfig

    @serve.deployment(
        num_replicas=2,
        max_ongoing_requests=50,
        ray_actor_options={"num_cpus": 0},
        request_router_config=RequestRouterConfig(
            request_router_class="gsim.serve.for_ray:RayRouter",
            request_router_kwargs={"router": "least_request", "profiles": ["h800-llama-3.1-8b"] * 2},
        ),
    )
    class Echo:
        async def __call__(self, body: dict) -> str:
            await asyncio.sleep(body.get("seconds", 0.0))
            return serve.get_replica_context().replica_id.unique_id

    ray.init(num_cpus=2, include_dashboard=False)
    try:
        handle = serve.run(Echo.bind())
        answers = [handle.remote({"prompt": "some words", "seconds": 1.0}) for _ in range(8)]
        seen = [answer.result(timeout_s=60) for answer in answers]
        # Fewest in flight: half of what goes on at the same time to each of two.
        assert sorted(map(seen.count, set(seen))) == [4, 4]
    finally:
        serve.shutdown()
        ray.shutdown()
