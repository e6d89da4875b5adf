"""YAML as profiles are written: lists in one line, mappings in lines."""

from __future__ import annotations

from typing import Any

import yaml


class Flow(yaml.SafeDumper):
    """Lists in one line, mappings in lines."""


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    nested = any(isinstance(item, list) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=not nested)


Flow.add_representer(list, _represent_list)
