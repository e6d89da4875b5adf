"""What can be chosen by name: gsim's own policies, those of ``./extensions``, and what a caller has registered."""

from __future__ import annotations

import sys
import threading
import warnings
from dataclasses import dataclass

from gsim.core import registry
from gsim.run.extensions import extension_files, load_those_that_work

_LOADING = threading.Lock()


def known_extensions() -> tuple[str, ...]:
    """Have everything imported that registers an option; the extension files that could be.

    A broken file is warned of: what it registers is not there. One thread at a time, since a module that another one is
    importing looks as if it had registered nothing.
    """
    with _LOADING:
        for group in registry.groups():
            registry.entries(group)
        loaded, problems = load_those_that_work(extension_files())
    for problem in problems:
        warnings.warn(f"{problem}; what this file registers is not there", stacklevel=3)
    return loaded


@dataclass(frozen=True)
class Registered:
    """What a caller has registered in a notebook or a script: worker processes do not import those."""

    entries: tuple[registry.Entry, ...]

    @classmethod
    def here(cls) -> Registered:
        """What is registered in this process's ``__main__``."""
        found = (entry for group in registry.groups() for entry in registry.registered(group).values())
        return cls(tuple(entry for entry in found if entry.cls.__module__ == "__main__"))

    def there(self) -> None:
        """In a worker: register it. (Classes came by value, so the name may be another copy's.)"""
        for entry in self.entries:
            registry.register(entry.group, entry.name, config=entry.config)(entry.cls)


def unsaid(group: str, name: str) -> bool:
    """The class of this option has no source file, as in a notebook: nothing tells when its code has changed."""
    entry = registry.registered(group).get(name)
    module = None if entry is None else sys.modules.get(entry.cls.__module__)
    return module is not None and getattr(module, "__file__", None) is None
