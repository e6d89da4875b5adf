"""A router of ours inside LiteLLM's, in front of emulated servers: make test-gateways."""

from __future__ import annotations

import asyncio
import os

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
litellm = pytest.importorskip("litellm")

from gsim.cluster import InstanceSpec  # noqa: E402
from gsim.emulate.config import EmulateConfig  # noqa: E402
from gsim.emulate.pool import start_pool  # noqa: E402
from gsim.engine import EngineConfig  # noqa: E402
from gsim.latency import load_profile  # noqa: E402
from gsim.serve.advisor import advisor  # noqa: E402
from gsim.serve.for_litellm import use_in_litellm  # noqa: E402

NAMES = ("v100-llama-3.1-8b", "h800-llama-3.1-8b")


@pytest.mark.slow
def test_every_call_goes_where_the_policy_says_and_is_told_to_it():
    async def main():
        specs = [InstanceSpec(name, load_profile(name), EngineConfig(), 0.0) for name in NAMES]
        pool = await start_pool(specs, EmulateConfig(port=0, speed=20.0))
        models = [
            {
                "model_name": "m",
                "litellm_params": {"model": "openai/llama-3.1-8b", "api_base": f"{url}/v1", "api_key": "x"},
            }
            for url in pool.urls
        ]
        router = litellm.Router(model_list=models, num_retries=0)
        one = advisor("least_request", NAMES)
        use_in_litellm(router, one)
        messages = [{"role": "user", "content": "some words"}]

        async def call(stream):
            more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
            answer = await router.acompletion("m", messages, max_tokens=20, **more)
            if stream:
                async for _ in answer:
                    pass

        await asyncio.gather(*(call(stream=i % 2 == 0) for i in range(8)))
        answered = [
            int(
                server.served.metrics.registry.get_sample_value(
                    "vllm:request_success_total",
                    {"model_name": server.model, "engine": "0", "finished_reason": "length"},
                )
            )
            for server in pool.servers
        ]
        assert answered == [4, 4]
        for _ in range(100):  # callbacks come a little later
            if not one.gateway.active:
                break
            await asyncio.sleep(0.05)
        assert not one.gateway.active
        assert one.gateway.view.in_flight.tolist() == [0, 0]
        lengths = one.gateway._predictions._predictor._windows
        assert lengths[("", -1)].ordered == [20] * 8
        # A server that fails is told too.
        pool.servers[0].faults.begin({"kind": "unavailable"})
        pool.servers[1].faults.begin({"kind": "unavailable"})
        with pytest.raises(Exception, match="overloaded"):
            await router.acompletion("m", messages, max_tokens=20)
        await asyncio.sleep(0.5)
        assert not one.gateway.active
        await pool.close()

    asyncio.run(asyncio.wait_for(main(), 60.0))
