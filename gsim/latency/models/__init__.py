"""Architectures of models: from a catalogue, or from a published ``config.json``."""

from gsim.latency.models.shape import Experts, ModelShape, catalogue_key, shape_fields

__all__ = ["Experts", "ModelShape", "catalogue_key", "shape_fields"]
