"""Settings of a client: what they are, where they come from, and how they are checked."""

from moe_segments.models.validators import problem_of_quotes
from moe_segments.settings.configuration import Configuration, Given
from moe_segments.settings.network import is_loopback, proxy_for, tls_context
from moe_segments.settings.overrides import Overrides
from moe_segments.settings.sources import CREDENTIALS, read_settings
from moe_segments.settings.table import LOG_LEVELS, SETTINGS, RunSettings, Setting
from moe_segments.settings.values import (
    Settings,
    default_journal_url,
    problem_of_http,
    problem_of_journal_url,
    state_dir,
    state_dir_or_none,
)

__all__ = [
    "CREDENTIALS",
    "LOG_LEVELS",
    "SETTINGS",
    "Configuration",
    "Given",
    "Overrides",
    "RunSettings",
    "Setting",
    "Settings",
    "default_journal_url",
    "is_loopback",
    "problem_of_http",
    "problem_of_journal_url",
    "problem_of_quotes",
    "proxy_for",
    "read_settings",
    "state_dir",
    "state_dir_or_none",
    "tls_context",
]
