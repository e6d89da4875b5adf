"""Task classes with measured parameters: what an agent of each kind asks for.

Figures are percentiles of public traces; [A] marks an assumption where nothing was published.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from gsim.workload.lengths import Always, Geometric, Lengths, Lognormal, Mixture, Percentiles, Uniform

_ONE = Always(1)
_NONE = Always(0)


@dataclass(frozen=True)
class TaskClass:
    """How sessions of one kind look. Lengths in tokens, gaps in seconds."""

    source: str
    first_tokens: Lengths
    """The first prompt, shared part included."""
    output_tokens: Lengths
    """Per turn (with ``output_split``: per session)."""
    max_output_tokens: int
    """What the client asks for at most [A]; longer outputs are cut."""
    turns: Lengths = _ONE
    append_tokens: Lengths = _ONE
    """New prompt tokens per later turn (tool output, the user's message)."""
    gap_s: Lengths = _NONE
    """From the end of a turn to the next: the tool's time, or the user's."""
    shared_tokens: int = 0
    """Leading tokens that all sessions of the class have in common (system prompt, tool definitions)."""
    groups: int = 0
    """Sessions fall into so many groups ..."""
    group_share: float = 0.0
    """... that share this part of their first prompt (a database's schema)."""
    output_split: tuple[float, ...] = ()
    """The session's output over its turns (one turn per entry)."""


#: Tool times of a coding agent: most calls are file reads, one in three runs something (agentcgroup, 5,521 gaps).
_TOOL_GAP = Mixture(((0.65, Lognormal.through(0.02, 0.065)), (0.35, Lognormal(2.07, 0.62))))

CLASSES: dict[str, TaskClass] = {
    "code_agent_light": TaskClass(
        source="SWE-agent, GPT-4, SWE-bench Lite, 826 trajectories (AutoCodeRoverSG/auto-code-rover@585d3e6); gaps as "
        "code_agent [A]; 1,500 tokens of instructions shared [A]",
        first_tokens=Percentiles.of(1913, 2067, 2554.5, 4050),
        append_tokens=Percentiles.of(52, 386.5, 1172, 2168),
        output_tokens=Percentiles.of(60, 132, 291, 533),
        turns=Percentiles.of(6, 10, 15.5, 21),
        gap_s=_TOOL_GAP,
        shared_tokens=1500,
        max_output_tokens=1024,
    ),
    "code_agent": TaskClass(
        source="Claude Code with GLM-4.7-Flash on 111 SWE-rebench tasks (eunomia-bpf/agentcgroup@5af9e7b); about 0.95 "
        "of the first prompt shared",
        first_tokens=Percentiles.of(13232, 13385, 13816, 14584),
        append_tokens=Percentiles.of(44, 305, 1467, 11456, high=60_000),
        output_tokens=Percentiles.of(53, 145, 601, 1399),
        turns=Percentiles.of(18, 45, 92, 132.8),
        gap_s=_TOOL_GAP,
        shared_tokens=12_700,
        max_output_tokens=4096,
    ),
    "code_agent_production": TaskClass(
        source="Claude Code in production, 692 sessions (callanjfox/kv-cache-tester@94f6046): 5.5 % of gaps are a "
        "human's; 15,000 tokens of system prompt and tools at the median",
        first_tokens=Percentiles.of(15495.6, 24259, 260200.8, 716534, high=1_000_000),
        append_tokens=Percentiles.of(230, 713, 4213, 58063, high=200_000),
        output_tokens=Percentiles.of(104, 217, 895, 3679),
        turns=Percentiles.of(7, 44, 148.9, 331),
        gap_s=Mixture(
            (
                (0.945, Percentiles.of(4, 9, 75, 619, low=0.1, high=3600)),
                (0.055, Percentiles.of(5, 188, 2568, 37970, low=1, high=86400)),
            )
        ),
        shared_tokens=15_000,
        max_output_tokens=16_384,
    ),
    "livecodebench": TaskClass(
        source="prompts: LiveCodeBench/submissions@4d04b02, 880 problems; outputs: mean 13,000 of reasoning models "
        "(DeepSeek-V3.2 report, arXiv 2512.02556, Table 3), sigma 0.8 [A]; 120 tokens of instructions shared [A]",
        first_tokens=Percentiles.of(355, 543.5, 820, 1195.7),
        output_tokens=Lognormal(log(13_000) - 0.8**2 / 2, 0.8, low=200),
        shared_tokens=120,
        max_output_tokens=32_768,
    ),
    "text_to_sql": TaskClass(
        source="outputs: BIRD mini-dev, 9 models, 4,500 queries (bird-bench/mini_dev@4d970a9); prompts: schema-sized, "
        "lognormal of median 2,200 [A]; 11 databases as in BIRD dev, 0.85 of the prompt is their schema [A]",
        first_tokens=Lognormal(7.7, 0.6, low=200),
        output_tokens=Percentiles.of(25, 48, 85, 174),
        groups=11,
        group_share=0.85,
        max_output_tokens=512,
    ),
    "sql_agent": TaskClass(
        source="InterCode Spider, GPT-4, 1,034 sessions (princeton-nlp/intercode@c3e46d8); prompts as text_to_sql; "
        "database time 0.05 to 2 s [A]",
        first_tokens=Lognormal(7.7, 0.6, low=200),
        append_tokens=Percentiles.of(13, 24, 120, 1126),
        output_tokens=Percentiles.of(9, 22, 51, 84.3),
        turns=Percentiles.of(2.3, 5, 10, 10.5, high=10),
        gap_s=Lognormal(log(0.3), 0.8, low=0.05, high=2),
        groups=11,
        group_share=0.85,
        max_output_tokens=512,
    ),
    "math": TaskClass(
        source="prompts: MATH-500 with 40 tokens of instructions; outputs: mean 13,000 on AIME 2025 (DeepSeek-V3.2 "
        "report), sigma 0.8 [A]",
        first_tokens=Percentiles.of(61, 89, 175, 367),
        output_tokens=Lognormal(log(13_000) - 0.8**2 / 2, 0.8, low=200),
        max_output_tokens=32_768,
    ),
    "math_agent": TaskClass(
        source="ToRA-70B on GSM8K, 1,319 problems (microsoft/ToRA@213c1c9): total output over a program and an answer, "
        "split 0.8 to 0.2 [A]; tool output 5 to 20 tokens [A]; Python 0.05 to 0.5 s [A]",
        first_tokens=Percentiles.of(36, 55, 89, 124),
        append_tokens=Uniform(5, 20),
        output_tokens=Percentiles.of(133, 179, 243.2, 321.7),
        output_split=(0.8, 0.2),
        gap_s=Uniform(0.05, 0.5),
        max_output_tokens=512,
    ),
    "tool_agent": TaskClass(
        source="tau-bench airline, gpt-4o, 200 sessions (sierra-research/tau-bench@59a200c); 3,000 tokens of policy "
        "and tools shared (all first prompts are 3,050 to 3,090 long); API time 0.05 to 1 s [A]",
        first_tokens=Percentiles.of(3050, 3058, 3075, 3086),
        append_tokens=Percentiles.of(5, 43.5, 209, 838),
        output_tokens=Percentiles.of(23, 64, 154, 302),
        turns=Percentiles.of(5, 11, 20, 30, high=30),
        gap_s=Uniform(0.05, 1.0),
        shared_tokens=3000,
        max_output_tokens=1024,
    ),
    "chat": TaskClass(
        source="lengths: Azure 2023 conv, 19,366 requests; mean of 2.0 turns (LMSYS-Chat-1M); gap 111 s (p50), 720 s "
        "(p90) (Qwen-Bailian, BurstGPT); messages of 70 tokens at the median, mean 150 [A]",
        first_tokens=Percentiles.of(207, 1020, 2734.5, 4142),
        append_tokens=Lognormal(log(70), 1.23, high=4000),
        output_tokens=Percentiles.of(54, 129, 424, 601),
        turns=Geometric(2.0),
        gap_s=Lognormal.through(111, 720, low=1, high=7200),
        max_output_tokens=2048,
    ),
}
