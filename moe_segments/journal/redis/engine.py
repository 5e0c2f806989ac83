"""A journal in Redis or Valkey: one quota for a fleet of any number of processes and hosts.

The server must keep what it acknowledges (`appendonly yes`, `appendfsync always`, `noeviction`); that is checked with
each connection, see `durability`. Its clock is the journal's; no client's clock can make a decision wrong.

Why one round trip is enough, and exact. A handle knows the log's tip, and what time it was at the server's last answer.
`transact` lets `decide` run on that state, at a time that is an estimate: the server's time then, and what has passed
here since. Then one script, in which nothing else happens,

1. finds the batch id: it was appended before, and that batch is the answer;
2. compares the tip: others appended meanwhile, and what they did is the answer, with the server's time;
3. compares the time: decided later than the server's clock shows now (this host's clock runs fast, or the server's was
   set back), or more than a second before it (this host slept), and the server's time is the answer;
4. else appends, stamped with the server's clock, never below the last batch's stamp.

So a grant was decided on exactly the log it was appended to, at a moment not after the server's: quota that is free at
one moment is still free a moment later when nothing was appended between. After 2 and 3 `decide` runs again on what the
server said, until an append succeeds; who loses two races stands in line, see `scripts`.

A refusal appends nothing and would compare nothing: it counts only when it was decided on an answer of the server
within the same call; one that was decided on the estimate is decided anew after a read. Refusals beside grants in one
batch were compared with the tip like these, and are at most that second old.

An append whose answer was lost raises `JournalAmbiguous`: ask again with the same batch id.

A log that does not go on where this handle left it (fail-over to a replica that lagged, restore, flush, eviction) is
noticed by its identity and by the batch at the last version seen, in every call; the call fails, and so does every
later one. On opening, the witness in this host's state directory is compared in the same way, see
`journal.local.witness`.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from moe_segments.core.events import Batch, Reserved, Trusted, decode, encode, joined
from moe_segments.errors import JournalError
from moe_segments.journal.checksum import checksum_sha1
from moe_segments.journal.local.clock import BootClock
from moe_segments.journal.local.state_directory import usable
from moe_segments.journal.local.witness import Witness
from moe_segments.journal.local.witness_file import Sighting
from moe_segments.journal.redis.connection import Link
from moe_segments.journal.redis.errors import refusal
from moe_segments.journal.redis.pubsub import News
from moe_segments.journal.redis.scripts import CHECKPOINT, LEAVE, MIGRATIONS, STEP, Keys, opening
from moe_segments.journal.redis.url import address_of
from moe_segments.journal.server_engine import ServerJournal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from moe_segments.core.events import Event
    from moe_segments.journal.protocol import Clock, Decide
    from moe_segments.journal.redis.scripts import Migration

__all__ = ["RedisJournal"]

_LAG_US: Final = 1_000_000  # how old a decision may be that was not made on an answer of the server
_ANY_LAG_US: Final = 3_600_000_000
_FAST_PART: Final = 1_000  # this host's clock may run a thousandth faster than the server's
_LOSSES: Final = 2  # races lost before it stands in line
_HELD_S: Final = 0.002  # between two looks whether it is its turn, for each ahead


class RedisJournal(ServerJournal):
    """The `Journal` promise on a Redis. Every method raises `JournalError` when the server cannot keep it.

    Args:
        url: `redis://`, `rediss://` or `redis+unix://`; see `url.address_of`. Never shown.
        scope: Which log: what shares one quota. Others lie beside it.
        clock: Microseconds since the epoch instead of the server's clock, for tests.
        state_dir: Where this host's witness is kept; None for none.
        poll_s: How often `changed` looks for what others appended and was not told of, seconds, give or take a quarter.
        host: The sources of this host's time, for tests.
        migrations: How older journals become current, for tests.

    Raises:
        InputError: The URL cannot be read.
    """

    journal_id: str
    doubt: str | None

    def __init__(
        self,
        url: str,
        scope: str,
        *,
        clock: Clock | None = None,
        state_dir: Path | None = None,
        poll_s: float = 0.25,
        host: BootClock | None = None,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        super().__init__(scope, state_dir, poll_s)
        self._clock, self._boot_us = clock, (host or BootClock()).boot_us
        self._keys, self._schema = Keys(scope), len(migrations)
        self._opening = opening(migrations)
        self._link = Link(address_of(url), (self._opening, STEP, LEAVE, CHECKPOINT))
        self._news = News(self._link, self._keys.news, self._notifier)
        self._witness = Witness(None, scope)
        self._tip = 0, ""  # the last version seen, and its batch id
        self._server_us, self._read_us = 0, 0  # the journal's time at the server's last answer, and this host's then
        self._unsealed = 0  # the last version without a checksum

    @property
    def _place(self) -> str:
        return self._link.place

    @property
    def _last_seen(self) -> int:
        self._take_up_what_the_host_has_seen()
        return self._tip[0]

    @property
    def _notifications(self) -> News:
        return self._news

    async def open(self) -> None:
        """Make or open the log. Does nothing when it is open.

        Raises:
            JournalError: The server cannot be used, or may lose what it acknowledges; with what to do.
        """
        if self._is_open:
            return
        try:
            self._witness = Witness(usable(self._state_dir, self._scope), self._scope)
            await self._look_and_make()
        except OSError as error:
            raise JournalError(
                f"the journal's witness in {self._state_dir} cannot be used: {error.strerror}"
            ) from error
        except BaseException:
            await self._link.close()
            self._witness.close()
            raise
        self._is_open, self._pid = True, os.getpid()

    async def _look_and_make(self) -> None:
        seen, new_id = self._witness.seen, secrets.token_hex(16)
        answer = await self._link.call(
            self._opening,
            self._keys.all,
            *(new_id, self._now_or_none(), seen.version if seen else 0),
            writes=False,  # made twice it is made once
        )
        if answer[0] != b"open":
            raise self._refusal(answer)
        _, time_us, (journal_id, version, batch_id, at_us, unsealed, _sum), witnessed = answer
        self.journal_id, self._unsealed = journal_id.decode(), int(unsealed)
        self.is_new: bool = self.journal_id == new_id
        self._tip = int(version), batch_id.decode()
        self._note_time(max(int(time_us), int(at_us)))
        held = witnessed.decode() if witnessed else None
        self.doubt = self._witness.examine(self._sighting(), is_new=self.is_new, id_at=lambda _: held)

    async def close(self) -> None:
        """Let go of the server. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        if self._pid != os.getpid():  # after a fork the connections are the parent's
            return
        await self._news.close()
        await self._link.close()
        self._witness.close()

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        """Decide and append in one round trip, or in as many as races are lost. See `Journal.transact`.

        *decide* runs in the event loop. It may run once before the batch id is looked up; what it returns or raises
        then does not count when the log holds the id.

        Raises:
            JournalAmbiguous: The answer was lost: ask again with the same *batch_id*.
            JournalError: Nothing was recorded.
        """
        self._check_usable()
        self._take_up_what_the_host_has_seen()
        missed: Sequence[Batch] = ()
        base, losses, stands, lag_us = after, 0, False, _LAG_US
        events, decided_us = self._foreseen(decide) if after == self._tip[0] else ((), 0)
        while True:
            wants = losses >= _LOSSES
            answer = await self._step(
                batch_id, str(base), after=base, events=events, decided_us=decided_us, lag_us=lag_us, wants=wants
            )
            match answer[0]:
                case b"done":
                    return await self._confirmed(self._appended(answer, batch_id, events))
                case b"stored":
                    return await self._confirmed(self._stored(answer, batch_id))
                case b"held":
                    stands, lag_us = True, _LAG_US
                    await self._its_turn(answer[2])
                    continue
                case b"missed":
                    stands = stands or (wants and bool(events))
                    losses += bool(events)
                    more = await self._all_missed(answer, base)
                    missed, base = joined(missed, more), more[-1].version if more else base
                case _:  # the time was not what it was taken for
                    pass
            # Decided on an answer, it is as old as the way there and back is long, however long that is.
            events, decided_us, lag_us = tuple(decide(missed, self._server_us)), self._server_us, _ANY_LAG_US
            if not events:
                if stands:
                    await self._link.call(LEAVE, self._keys.all, batch_id, writes=False)
                return None

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """Record what happened, in one round trip. See `Journal.append`.

        Raises:
            JournalAmbiguous: The answer was lost: ask again with the same *batch_id*.
            JournalError: Nothing was recorded.
        """
        self._check_usable()
        facts = tuple(events)
        answer = await self._step(batch_id, "", after=0, events=facts)
        return self._stored(answer, batch_id) if answer[0] == b"stored" else self._appended(answer, batch_id, facts)

    async def read(self, after: int) -> Sequence[Batch]:
        """Return the batches after version *after*. See `Journal.read`.

        Raises:
            JournalError: The server cannot be read, or the log does not reach *after*.
        """
        self._check_usable()
        return await self._all_missed(await self._step("", str(after), after=after), after)

    async def checkpoint(self, version: int, state: Event, *, keep_since_us: int) -> None:
        """Let *state* stand for everything up to *version*. See `Journal.checkpoint`.

        Raises:
            JournalError: Nothing was changed, or the answer was lost; or the log does not reach *version*.
        """
        self._check_usable()
        text = encode([state])
        await asyncio.sleep(0)  # it is long, and so is sending it
        answer = await self._link.call(
            CHECKPOINT,
            self._keys.all,
            *(*self._known(), version, text, keep_since_us),
            writes=True,
        )
        if answer[0] == b"absent":
            raise JournalError(f"a checkpoint stands for versions from 1 on that the log holds, not for {version}")
        if answer[0] != b"done":
            raise self._refusal(answer, reached=version)

    async def _is_changed(self, after: int) -> bool:
        while True:
            tip = self._tip
            found = await self._link.look(self._keys.head, "journal", "version", "id")
            if tip == self._tip:  # else an append of this handle came between
                return self._is_news(found, after)

    # One step

    async def _its_turn(self, ahead: int) -> None:
        """Wait until it may be its turn: the next append, or a moment for each who stands before it."""
        await self._notifier.wait(_HELD_S * (1 + ahead) * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load

    def _foreseen(self, decide: Decide) -> tuple[tuple[Event, ...], int]:
        """Return what is decided on the known tip at the estimated time; nothing where that fails."""
        now_us = self._estimated_us()
        with suppress(Exception):  # it counts only where the server has confirmed what it was decided on
            return tuple(decide((), now_us)), now_us
        return (), now_us

    def _estimated_us(self) -> int:
        if self._clock is not None:
            return max(self._server_us, self._clock())
        passed_us = max(0, self._boot_us() - self._read_us)
        return self._server_us + passed_us - passed_us // _FAST_PART

    async def _step(
        self,
        batch_id: str,
        base: str,
        *,
        after: int,
        events: Sequence[Event] = (),
        decided_us: int = 0,
        lag_us: int = _LAG_US,
        wants: bool = False,
    ) -> list[Any]:
        """Return one run of the script that reads and appends; its answer, when this is the log that is known."""
        self._take_up_what_the_host_has_seen()
        answer = await self._link.call(
            STEP,
            self._keys.all,
            *(*self._known(), self._now_or_none(), batch_id, base, decided_us, lag_us),
            *(encode(events) if events else "", self._keys.news, after, int(wants)),
            writes=bool(events),
        )
        if answer[0] not in {b"done", b"stored", b"held", b"missed", b"time"}:
            raise self._refusal(answer, reached=after)
        self._note_time(int(answer[1]))
        return answer

    def _is_news(self, head: Sequence[bytes | None], after: int) -> bool:
        """Return whether the log goes beyond version *after*, or is not the one that was left; reading says which."""
        journal_id, version, batch_id = head
        if journal_id != self.journal_id.encode() or version is None:
            return True
        end, tip = int(version), self._tip
        return end > after or end < max(after, tip[0]) or (end == tip[0] and batch_id != tip[1].encode())

    def _take_up_what_the_host_has_seen(self) -> None:
        seen = self._witness.ahead(self._sighting())
        if seen is not None:
            self._tip = seen.version, seen.batch_id

    def _known(self) -> tuple[object, ...]:
        return self.journal_id, self._schema, *self._tip

    def _now_or_none(self) -> int | str:
        return "" if self._clock is None else self._clock()

    def _note_time(self, time_us: int) -> None:
        self._server_us, self._read_us = time_us, self._boot_us()

    def _appended(self, answer: list[Any], batch_id: str, events: tuple[Event, ...]) -> Batch:
        batch = Batch(answer[2], batch_id, int(answer[1]), events)
        self._tip = batch.version, batch_id
        counts = any(isinstance(event, Reserved | Trusted) for event in events)
        self._witness.note(self._sighting(), counts=counts)
        self._notifier.notify()
        return batch

    def _stored(self, answer: list[Any], batch_id: str) -> Batch:
        batch = self._batch(answer[2])
        if batch.id != batch_id:
            raise self._refusal([b"damaged"])
        return batch

    async def _all_missed(self, answer: list[Any], after: int) -> Sequence[Batch]:
        """Return what an answer shows, which is so much at most that it is read in a moment, and what follows it."""
        if answer[3]:  # a checkpoint is long, and took a while to arrive
            await asyncio.sleep(0)
        missed = self._missed(answer, after)
        while missed and missed[-1].version < answer[2]:
            await asyncio.sleep(0)
            after = missed[-1].version
            answer = await self._step("", str(after), after=after)
            missed = joined(missed, self._missed(answer, after))
        return missed

    def _missed(self, answer: list[Any], after: int) -> Sequence[Batch]:
        """Return the batches after version *after* in the script's answer, or the checkpoint and what follows it."""
        _, _, version, checkpoint, entries = answer
        found = [self._batch(entry) for entry in entries]
        batches = [batch for batch in found if batch.version > after]
        if checkpoint:
            stand_in = self._checkpoint(checkpoint)
            if not found or not found[0].version - 1 <= stand_in.version <= version:
                raise self._refusal([b"damaged"])
            batches = [stand_in, *(batch for batch in batches if batch.version > stand_in.version)]
        begin = batches[0].version if checkpoint else after + 1
        is_whole = [batch.version for batch in batches] == list(range(begin, begin + len(batches)))
        if not is_whole or (not batches and version > after):
            raise self._refusal([b"damaged"])
        tip = (found[-1].version, found[-1].id) if found else self._tip
        if tip > self._tip:
            self._tip = tip
            self._witness.note(self._sighting(), {_version(one): one[1][1].decode() for one in entries}, is_ours=False)
        self._news.notified = version
        return batches

    def _batch(self, entry: Any) -> Batch:
        """Return the batch of a stream's entry, compared with its checksum."""
        try:
            _, batch_id, _, at_us, _, events, *sealed = entry[1]
            fields = _version(entry), batch_id.decode(), int(at_us), events.decode()
            self._compare(fields, sealed[1] if sealed else None)
        except (ValueError, TypeError, IndexError, AttributeError):
            raise self._refusal([b"damaged"]) from None
        version, name, at, text = fields
        return Batch(version, name, at, decode(text))

    def _checkpoint(self, kept: list[Any]) -> Batch:
        try:
            version, at_us, state, found = kept
            fields = int(version), int(at_us), state.decode()
            self._compare(fields, found)
        except (ValueError, TypeError, AttributeError):
            raise self._refusal([b"damaged"]) from None
        number, at, text = fields
        return Batch(number, f"checkpoint-{number}", at, decode(text))

    def _compare(self, fields: tuple[Any, ...], found: bytes | None) -> None:
        is_unsealed = found is None and fields[0] <= self._unsealed
        if not is_unsealed and found != checksum_sha1(self.journal_id, *fields).encode():
            raise ValueError

    def _sighting(self) -> Sighting:
        version, batch_id = self._tip
        return Sighting(self.journal_id, version, self._link.place, batch_id)

    # What stands in the way

    def _refusal(self, answer: Sequence[Any], *, reached: int = 0) -> JournalError:
        return refusal(answer, self._link.place, self._keys, seen=max(self._tip[0], reached), schema=self._schema)


def _version(entry: Sequence[Any]) -> int:
    number: bytes = entry[0]
    return int(number.partition(b"-")[0])
