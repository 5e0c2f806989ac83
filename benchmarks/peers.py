"""Other limiters, behind the one question that the benchmarks ask of each. Absent ones are skipped with a reason.

They are loaded by name, so that neither the benchmarks nor their type check need them installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from moe_segments.limits import DAY_S, HOUR_S

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from moe_segments.limits import QuotaLimits

__all__ = ["Limits", "LimitsRedis", "Peer", "PyrateMemory", "PyratePostgres", "PyrateRedis", "PyrateSqlite", "loaded"]

KEY: Final = "workspace"


def loaded(name: str) -> ModuleType | None:
    """The module *name*, or None, said on the screen, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name.replace('_', '-')}: skipped, not installed (dependency group bench)")
        return None


class Peer(Protocol):
    """A limiter with the hour and the day of operations and, unless *rows* is 0, the day of users."""

    def fill(self, count: int, rows: int) -> None:
        """Take *count* operations of *rows* users for spent within the last day, few of them in the last hour."""

    def admit(self, rows: int) -> bool:
        """Ask for one operation of *rows* users, and count it when it fits."""

    def undo(self, rows: int) -> None:
        """Forget the operation that was admitted last."""


def _rates(pyrate: Any, limits: QuotaLimits) -> tuple[list[Any], list[Any]]:
    hour_ms, day_ms = round(HOUR_S * 1_000), round(DAY_S * 1_000)
    operations = [pyrate.Rate(limits.operations_per_hour, hour_ms), pyrate.Rate(limits.operations_per_day, day_ms)]
    return operations, [pyrate.Rate(limits.users_per_day, day_ms)]


def _moments_ms(now_ms: int, count: int) -> list[int]:
    """Moments of the last day before the last hour, oldest first."""
    step_ms = round((DAY_S - HOUR_S) * 1_000) // (count + 1)
    return [now_ms - round(HOUR_S * 1_000) - step_ms * number for number in range(count, 0, -1)]


@attrs.define
class PyrateMemory:
    """pyrate-limiter: two limiters, each on a bucket in memory. A weight of n is n items.

    Attributes:
        pyrate: The module.
        limits: The quotas.
    """

    pyrate: Any
    limits: QuotaLimits
    _buckets: tuple[Any, Any] = attrs.field(init=False)
    _limiters: tuple[Any, Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        operations, users = _rates(self.pyrate, self.limits)
        self._buckets = self.pyrate.InMemoryBucket(operations), self.pyrate.InMemoryBucket(users)
        self._limiters = self._limiter(self._buckets[0]), self._limiter(self._buckets[1])

    def _limiter(self, bucket: Any) -> Any:
        # Without its thread that clears up: nothing here gets old.
        return self.pyrate.Limiter(self.pyrate.limiter.SingleBucketFactory(bucket, schedule_leak=False))

    def fill(self, count: int, rows: int) -> None:
        """See `Peer.fill`."""
        for bucket, weight in zip(self._buckets, (1, rows), strict=True):
            for moment_ms in _moments_ms(bucket.now(), count):
                assert not weight or bucket.put(self.pyrate.RateItem(KEY, moment_ms, weight=weight))

    def admit(self, rows: int) -> bool:
        """See `Peer.admit`."""
        operations, users = self._limiters
        return bool(
            operations.try_acquire(KEY, blocking=False) and (not rows or users.try_acquire(KEY, rows, blocking=False))
        )

    def undo(self, rows: int) -> None:
        """See `Peer.undo`."""
        operations, users = self._buckets
        del operations.items[-1:]
        if rows:
            del users.items[-rows:]


@attrs.define
class Limits:
    """limits: the moving window of its memory storage. A weight of n is n entries.

    Attributes:
        module: The module.
        limits: The quotas.
    """

    module: Any
    limits: QuotaLimits
    _storage: Any = attrs.field(init=False)
    _window: Any = attrs.field(init=False)
    _hour: Any = attrs.field(init=False)
    _day: Any = attrs.field(init=False)
    _users: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._storage = self.module.storage.MemoryStorage()
        self._window = self.module.strategies.MovingWindowRateLimiter(self._storage)
        self._hour = self.module.RateLimitItemPerHour(self.limits.operations_per_hour, namespace="operations")
        self._day = self.module.RateLimitItemPerDay(self.limits.operations_per_day, namespace="operations")
        self._users = self.module.RateLimitItemPerDay(self.limits.users_per_day, namespace="users")

    def fill(self, count: int, rows: int) -> None:
        """See `Peer.fill`. Its clock is the wall's, so the hour stays empty and the day was filled just now."""
        for _ in range(count):
            assert self._window.hit(self._day, KEY)
            assert not rows or self._window.hit(self._users, KEY, cost=rows)

    def admit(self, rows: int) -> bool:
        """See `Peer.admit`."""
        hit = self._window.hit
        return bool(hit(self._hour, KEY) and hit(self._day, KEY) and (not rows or hit(self._users, KEY, cost=rows)))

    def undo(self, rows: int) -> None:
        """See `Peer.undo`."""
        for item, amount in ((self._hour, 1), (self._day, 1), (self._users, rows)):
            if amount:
                del self._storage.events[item.key_for(KEY)][:amount]


@attrs.define
class PyrateSqlite:
    """pyrate-limiter: two buckets in one SQLite file, with the PRAGMAs it sets by itself.

    Attributes:
        pyrate: The module.
        limits: The quotas.
        path: The file.
    """

    pyrate: Any
    limits: QuotaLimits
    path: Path
    _buckets: tuple[Any, Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        operations, users = _rates(self.pyrate, self.limits)
        made = self.pyrate.SQLiteBucket.init_from_file
        self._buckets = (
            made(operations, table="operations", db_path=str(self.path)),
            made(users, table="users", db_path=str(self.path)),
        )

    def fill(self, count: int, rows: int) -> None:
        """See `Peer.fill`. Written in one transaction: by its own calls it would take minutes."""
        operations, users = self._buckets
        moments = _moments_ms(operations.now(), count)
        for bucket, weight in ((operations, 1), (users, rows)):
            entries = ((KEY, moment) for moment in moments for _ in range(weight))
            bucket.conn.executemany(f"INSERT INTO '{bucket.table}' VALUES (?, ?)", entries)
            bucket.conn.commit()

    def admit(self, rows: int) -> bool:
        """See `Peer.admit`."""
        operations, users = self._buckets
        item, now_ms = self.pyrate.RateItem, operations.now()
        return bool(operations.put(item(KEY, now_ms)) and (not rows or users.put(item(KEY, now_ms, weight=rows))))

    def undo(self, rows: int) -> None:
        """See `Peer.undo`. The last entries stay: rates are made wide enough for all that are asked."""

    def close(self) -> None:
        """Let go of the file."""
        for bucket in self._buckets:
            bucket.close()


@attrs.define
class PyrateRedis:
    """pyrate-limiter: two buckets in one Redis, through redis-py's blocking client.

    Attributes:
        pyrate: The module.
        limits: The quotas.
        redis: The client.
        prefix: Of its keys.
    """

    pyrate: Any
    limits: QuotaLimits
    redis: Any
    prefix: str
    _buckets: tuple[Any, Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        operations, users = _rates(self.pyrate, self.limits)
        made = self.pyrate.RedisBucket.init
        self._buckets = (
            made(operations, self.redis, f"{self.prefix}-operations"),
            made(users, self.redis, f"{self.prefix}-users"),
        )

    def fill(self, count: int, rows: int) -> None:
        """See `Peer.fill`."""
        operations, users = self._buckets
        for moment_ms in _moments_ms(operations.now(), count):
            assert operations.put(self.pyrate.RateItem(KEY, moment_ms))
            assert not rows or users.put(self.pyrate.RateItem(KEY, moment_ms, weight=rows))

    def admit(self, rows: int) -> bool:
        """See `Peer.admit`."""
        operations, users = self._buckets
        item, now_ms = self.pyrate.RateItem, operations.now()
        return bool(operations.put(item(KEY, now_ms)) and (not rows or users.put(item(KEY, now_ms, weight=rows))))

    def undo(self, rows: int) -> None:
        """See `Peer.undo`. The last entries stay: rates are made wide enough for all that are asked."""


@attrs.define
class LimitsRedis:
    """limits: the moving window of its Redis storage, through redis-py's blocking client.

    Attributes:
        module: The module.
        limits: The quotas.
        url: The server.
        key: Whose quota.
    """

    module: Any
    limits: QuotaLimits
    url: str
    key: str
    _window: Any = attrs.field(init=False)
    _hour: Any = attrs.field(init=False)
    _day: Any = attrs.field(init=False)
    _users: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._window = self.module.strategies.MovingWindowRateLimiter(self.module.storage.RedisStorage(self.url))
        self._hour = self.module.RateLimitItemPerHour(self.limits.operations_per_hour, namespace="operations")
        self._day = self.module.RateLimitItemPerDay(self.limits.operations_per_day, namespace="operations")
        self._users = self.module.RateLimitItemPerDay(self.limits.users_per_day, namespace="users")

    def fill(self, count: int, rows: int) -> None:
        """See `Peer.fill`. Its clock is the server's, so all were spent just now."""
        for _ in range(count):
            assert self.admit(rows)

    def admit(self, rows: int) -> bool:
        """See `Peer.admit`."""
        hit = self._window.hit
        return bool(
            hit(self._hour, self.key)
            and hit(self._day, self.key)
            and (not rows or hit(self._users, self.key, cost=rows))
        )

    def undo(self, rows: int) -> None:
        """See `Peer.undo`. The last entries stay: rates are made wide enough for all that are asked."""


@attrs.define
class PyratePostgres:
    """pyrate-limiter: two buckets in one PostgreSQL, through psycopg's blocking pool.

    Attributes:
        pyrate: The module.
        limits: The quotas.
        pool: Of connections.
        prefix: Of its tables.
    """

    pyrate: Any
    limits: QuotaLimits
    pool: Any
    prefix: str
    _buckets: tuple[Any, Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        operations, users = _rates(self.pyrate, self.limits)
        made = self.pyrate.PostgresBucket
        self._buckets = (
            made(self.pool, f"{self.prefix}_operations", operations),
            made(self.pool, f"{self.prefix}_users", users),
        )

    def fill(self, count: int, rows: int) -> None:
        """See `Peer.fill`."""
        for bucket, weight in zip(self._buckets, (1, rows), strict=True):
            for moment_ms in _moments_ms(bucket.now(), count):
                assert not weight or bucket.put(self.pyrate.RateItem(KEY, moment_ms, weight=weight))

    def admit(self, rows: int) -> bool:
        """See `Peer.admit`."""
        operations, users = self._buckets
        item, now_ms = self.pyrate.RateItem, operations.now()
        return bool(operations.put(item(KEY, now_ms)) and (not rows or users.put(item(KEY, now_ms, weight=rows))))

    def undo(self, rows: int) -> None:
        """See `Peer.undo`. The last entries stay: rates are made wide enough for all that are asked."""
