"""Settings a Redis server needs before a journal is trusted to it. Pure.

With the settings it comes with a killed Redis loses everything it acknowledged, with `appendfsync everysec` the
last second, and with an eviction policy whatever it likes. Only `appendonly yes`, `appendfsync always`, not put
off during a rewrite, and `maxmemory-policy noeviction` keep what was acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.errors import JournalError, JournalUnavailable
from moe_segments.journal.redis.url import ACCEPTED_RISK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["WANTED", "check_server", "refuse_or_warn"]

WANTED: Final[Mapping[str, str]] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
# What INFO says in the place of CONFIG GET, where that is forbidden.
_IN_INFO: Final[Mapping[str, tuple[str, str, str]]] = {
    "appendonly": ("aof_enabled", "1", "no"),
    "maxmemory-policy": ("maxmemory_policy", "noeviction", ""),
}
_OLDEST: Final = (6, 2)


def check_server(info: Mapping[str, str], place: str) -> None:
    """Refuse a server that cannot hold a journal at all.

    Raises:
        JournalError: It is a replica, or too old.
    """
    if info.get("role") == "slave":  # for now: a fail-over may be under way
        raise JournalUnavailable(
            f"{place} is a replica, and a journal is written to its primary: name that one in the URL"
        )
    version = info.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < _OLDEST:
        raise JournalError(f"{place} is Redis {version} and a journal needs 6.2 or later: upgrade it")


def refuse_or_warn(
    settings: Mapping[str, str] | None, info: Mapping[str, str], place: str, *, accepts_risk: bool
) -> str | None:
    """Return what to warn of where the user accepts the risk; None when the server keeps what it acknowledges.

    Args:
        settings: What CONFIG GET says; None where this user may not ask.
        info: What INFO says.
        place: The server, as it may be shown.
        accepts_risk: The user accepts it in the URL.

    Raises:
        JournalError: It may lose what it acknowledged, or does not tell, and the user has not accepted that.
    """
    wrong = _wrong(settings, info)
    if wrong:
        problem = f"{place} may lose what it acknowledged ({', '.join(wrong)})"
        what_to_do = f"set {', '.join(f'{name} {value}' for name, value in WANTED.items())} in its configuration"
    elif settings is None:
        problem = f"{place} does not tell whether it keeps what it acknowledged: CONFIG GET is forbidden"
        what_to_do = "allow this user +config|get; of a managed service ask its maker for appendfsync always"
    else:
        return None
    if accepts_risk:
        return (
            f"{problem}; accepted by the journal's URL, so quota may be overspent after it is restarted or fails over"
        )
    raise JournalError(
        f"{problem}; a journal that forgets a reservation overspends the quota. Either {what_to_do}, or accept the "
        f"risk in words: add ?durability={ACCEPTED_RISK} to the journal's URL"
    )


def _wrong(settings: Mapping[str, str] | None, info: Mapping[str, str]) -> Sequence[str]:
    if settings is not None:
        found = {name: settings.get(name, "unknown") for name in WANTED}
        return [f"{name} is {value}" for name, value in found.items() if value != WANTED[name]]
    wrong = []
    for name, (field, good, otherwise) in _IN_INFO.items():
        value = info.get(field, good)
        if value != good:
            wrong.append(f"{name} is {otherwise or value}")
    return wrong
