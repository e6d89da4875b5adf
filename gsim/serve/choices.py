"""The policies of a configuration, for a gateway."""

from __future__ import annotations

from gsim.gateway.policies import Policies
from gsim.run.settings import Settings


def policies_of(settings: Settings) -> Policies:
    """Fresh policies: the same objects that a simulation of these settings asks."""
    made = {group: settings.choices[group].build() for group in ("router", "predictor", "estimator", "rectifier")}
    return Policies(**made, mechanism=settings.choices["mechanism"].build())


def scrape_interval_of(settings: Settings) -> float:
    """Seconds between two scrapes, as a simulation of these settings has them."""
    given = settings.choices["telemetry"].build().interval_s
    habit = getattr(settings.choices["router"].build(), "scrape_interval_s", None)
    return float(given or habit or 0.05)
