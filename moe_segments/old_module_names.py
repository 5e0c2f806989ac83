"""Modules that public values lived in before there were packages: pickles name them, so they go on answering."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Final

__all__ = ["MOVED"]

MOVED: Final = {
    "moe_segments.absent": "moe_segments.types",
    "moe_segments.cleaning": "moe_segments.files.check",
    "moe_segments.core.report": "moe_segments.core.files.report",
    "moe_segments.core.rules": "moe_segments.core.files.rules",
    "moe_segments.figures": "moe_segments.core.state.row_counts",
    "moe_segments.filter_ranges": "moe_segments.models.filters.ranges",
    "moe_segments.filter_values": "moe_segments.models.filters.values",
    "moe_segments.job_info": "moe_segments.submission.job_info",
    "moe_segments.many": "moe_segments.client.submit_many",
    "moe_segments.publisher": "moe_segments.publishing.publisher",
    "moe_segments.quota": "moe_segments.governor.usage",
    "moe_segments.splitting": "moe_segments.files.check",
}


class _Moved(ModuleType):
    """A module that takes its names from where they are now, when they are asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(MOVED[self.__name__]), name)


sys.modules |= {name: _Moved(name, f"The names of `{home}`.") for name, home in MOVED.items()}
