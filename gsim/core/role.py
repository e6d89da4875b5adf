"""Roles of instances: whose prompts an instance computes, and whose outputs it generates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gsim.core.errors import ConfigError

#: Computes prompts and generates outputs, as a server does by itself.
BOTH: Final = "both"
#: Computes prompts; what follows the first token is generated elsewhere.
PREFILL: Final = "prefill"
#: Generates outputs whose prompts were computed elsewhere; no request begins here.
DECODE: Final = "decode"
ROLES: Final = (BOTH, PREFILL, DECODE)


def check_role(role: str, where: str) -> None:
    """``ConfigError`` that names the place, the value and what is allowed, unless ``role`` is one."""
    if role not in ROLES:
        raise ConfigError(f"{where}: role {role!r} is unknown; allowed: {', '.join(ROLES)}")


def check_roles(names: Sequence[str], roles: Sequence[str], layouts: Sequence[str]) -> None:
    """``ConfigError`` unless every request can begin somewhere, go on somewhere, and its KV cache get there.

    Of each instance its name, its role, and its KV layout (KV is copied between equal ones only).
    """
    if not any(role != BOTH for role in roles):
        return
    if DECODE not in roles and BOTH not in roles:
        raise ConfigError(
            f"pool.instances: all have role prefill ({_some(names)}), so nobody generates what follows the first "
            "token; add an instance with role decode or both"
        )
    if PREFILL not in roles and BOTH not in roles:
        raise ConfigError(
            f"pool.instances: all have role decode ({_some(names)}), and no request can begin there; "
            "add an instance with role prefill or both"
        )
    if len(set(layouts)) > 1:
        first = {layout: name for name, layout in reversed(list(zip(names, layouts, strict=True)))}
        told = "; ".join(f"{name}: {layout}" for layout, name in first.items())
        raise ConfigError(
            f"pool.instances: with roles, KV caches go from instance to instance, so all must have one KV layout, "
            f"not {len(first)} ({told})"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
