"""The keys of a journal in Redis, the scripts that read and append, and how older journals become current. Pure.

One workspace's keys share one hash tag, so they lie in one slot of a cluster:

    moe-segments:{scope}:head        hash: schema, journal, version, id, at of the last batch, unsealed, sum
    moe-segments:{scope}:log         stream: one entry a batch, <version>-0, with i(d), a(t), e(vents), c(hecksum)
    moe-segments:{scope}:ids         hash: batch id -> version, as long as the log holds the batch
    moe-segments:{scope}:checkpoint  hash: version, at, state, sum
    moe-segments:{scope}:turns       list: batch ids of decisions that lost races and wait for their turn; mostly absent
    moe-segments:{scope}:news        channel: the version of each batch, as it is appended

A script is one atomic step. It checks first that this is the log that its caller knows: identity, schema, and the
last batch the caller has seen. What does not check is answered by a word, and nothing is written. Times are
microseconds since the epoch; they are text between the server and its clients, as a script's numbers would lose
digits there.

Checksums are `checksum.checksum_sha1`, made here, where the version and the time are known. The client compares those
of what it reads, a script that of the head. `unsealed` is the last version without one, of an older journal.

Turns keep the compare-and-append loop fair. A decision that lost two races in a row stands in line; while anybody
does, only the first in line appends a decision, and others that come stand behind. Facts are never held up. Who is
first and does not append within half a second (it died, or was cut off) loses its place.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CHECKPOINT", "LEAVE", "MIGRATIONS", "STEP", "Keys", "Migration", "Script", "opening"]

Migration: TypeAlias = str

# Migration number i makes a journal of schema i one of i + 1. Never change one that was released.
MIGRATIONS: Final[Sequence[Migration]] = (
    "redis.call('HSET', head, 'journal', new_journal, 'version', 0, 'id', '', 'at', 0)",
    "redis.call('HSET', head, 'unsealed', redis.call('HGET', head, 'version'))",
)


@attrs.frozen
class Script:
    """A script and the name the server knows it by.

    Attributes:
        text: In Lua.
        sha: Its SHA-1, hex.
    """

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script *text*."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Keys:
    """The keys of one scope.

    Args:
        scope: What shares one quota: workspace and data center.
    """

    head: bytes
    log: bytes
    ids: bytes
    checkpoint: bytes

    def __init__(self, scope: str) -> None:
        # Braces would end the hash tag early.
        root = f"moe-segments:{{{quote(scope, safe='@.-_~ ')}}}"
        self.head, self.log, self.ids, self.checkpoint = (
            f"{root}:{name}".encode() for name in ("head", "log", "ids", "checkpoint")
        )
        self.turns: bytes = f"{root}:turns".encode()
        self.news: bytes = f"{root}:news".encode()

    @property
    def all(self) -> tuple[bytes, ...]:
        """Return the keys in the order that every script takes them."""
        return self.head, self.log, self.ids, self.checkpoint, self.turns

    @property
    def pattern(self) -> str:
        """All of them, as one would say it."""
        return self.head.decode().removesuffix("head") + "*"


_SEALED: Final = """
local function sealed(...) return string.sub(redis.sha1hex(table.concat({...}, '\\n')), 1, 16) end
"""
_CHECKED: Final = (
    _SEALED
    + """
local head, log, ids, kept = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local found = redis.call('HMGET', head, 'journal', 'schema', 'version', 'id', 'at', 'unsealed', 'sum')
if found[1] ~= ARGV[1] then return {'other', found[1] or ''} end
if found[2] ~= ARGV[2] then return {'schema', found[2] or ''} end
for field = 3, 7 do
    if not found[field] then return {'damaged'} end
end
if found[7] ~= sealed(found[1], found[3], found[4], found[5], found[6]) then return {'damaged'} end
local tip, version = tonumber(ARGV[3]), tonumber(found[3])
-- The last batch always stays, so both are there unless the server lost one of them.
if version > 0 and redis.call('EXISTS', log, ids) < 2 then return {'damaged'} end
if version < tip then return {'behind', version} end
if version == tip then
    if found[4] ~= ARGV[4] then return {'forked', tip} end
elseif tip > 0 then
    local entry = redis.call('XRANGE', log, tip, tip)[1]
    if entry and entry[2][2] ~= ARGV[4] then return {'forked', tip} end
end
"""
)

# ARGV: journal, schema, tip, its id, clock or '', batch id or '', base or '', decided at, longest lag, events or '',
# channel, after, whether it wants a turn ('1').
# Appends `events` when the log ends at `base` and the clock shows `decided at` or up to the lag beyond; always where
# there is no base. Otherwise answers what stands in the way, with what follows `after`.
STEP: Final = Script.of(
    _CHECKED
    + """
local time = redis.call('TIME')
local server_us = time[1] * 1000000 + time[2]
local now = ARGV[5]
if now == '' then now = string.format('%.0f', server_us) end
local at = now
if tonumber(found[5]) > tonumber(now) then at = found[5] end
if ARGV[6] ~= '' then
    local known = redis.call('HGET', ids, ARGV[6])
    if known then return {'stored', at, redis.call('XRANGE', log, known, known)[1] or false} end
end
local base, events, turns = ARGV[7], ARGV[10], KEYS[5]
local decides, first = base ~= '' and events ~= '', false
if decides then
    first = redis.call('LINDEX', turns, 0)
    if first and first ~= ARGV[6] then
        local began = tonumber(redis.call('HGET', head, 'turn') or 0)
        if server_us < began or server_us - began > 500000 then
            redis.call('LPOP', turns)
            redis.call('HSET', head, 'turn', string.format('%.0f', server_us))
            first = redis.call('LINDEX', turns, 0)
        end
    end
    if first and first ~= ARGV[6] then
        local place = redis.call('LPOS', turns, ARGV[6])
        if not place then place = redis.call('RPUSH', turns, ARGV[6]) - 1 end
        return {'held', at, place}
    end
end
if events == '' or (decides and tonumber(base) ~= version) then
    local after = tonumber(ARGV[12])
    if after > version then return {'behind', version} end
    local entries = redis.call('XRANGE', log, math.min(after, tip), '+', 'COUNT', 250)
    local checkpoint = false
    if version > after and not entries[1] then return {'damaged'} end
    if version > after and tonumber(string.match(entries[1][1], '^%d+')) > after + 1 then
        checkpoint = redis.call('HMGET', kept, 'version', 'at', 'state', 'sum')
    end
    if decides and ARGV[13] == '1' and not first then
        redis.call('RPUSH', turns, ARGV[6])
        redis.call('HSET', head, 'turn', string.format('%.0f', server_us))
    end
    return {'missed', at, version, checkpoint, entries}
end
if decides then
    local lag = tonumber(at) - tonumber(ARGV[8])
    if lag < 0 or lag > tonumber(ARGV[9]) then return {'time', at} end
end
version = version + 1
local number = string.format('%.0f', version)
local sum = sealed(found[1], number, ARGV[6], at, events)
redis.call('XADD', log, number .. '-0', 'i', ARGV[6], 'a', at, 'e', events, 'c', sum)
redis.call('HSET', ids, ARGV[6], number)
sum = sealed(found[1], number, ARGV[6], at, found[6])
redis.call('HSET', head, 'version', number, 'id', ARGV[6], 'at', at, 'sum', sum)
if first then
    redis.call('LPOP', turns)
    redis.call('HSET', head, 'turn', string.format('%.0f', server_us))
end
redis.pcall('PUBLISH', ARGV[11], version)
return {'done', at, version}
"""
)

# ARGV: batch id. It stands in line no more.
LEAVE: Final = Script.of(
    """
local head, turns = KEYS[1], KEYS[5]
if redis.call('LINDEX', turns, 0) == ARGV[1] then
    local time = redis.call('TIME')
    redis.call('HSET', head, 'turn', string.format('%.0f', time[1] * 1000000 + time[2]))
end
return {redis.call('LREM', turns, 1, ARGV[1])}
"""
)

# ARGV: journal, schema, tip, its id, version, state, keep since.
CHECKPOINT: Final = Script.of(
    _CHECKED
    + """
local upto, state, since = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
if upto > version then return {'behind', version} end
local before = redis.call('HMGET', kept, 'version', 'at')
if before[1] and tonumber(before[1]) > upto then return {'done'} end
local entry = redis.call('XRANGE', log, upto, upto)[1]
local at = entry and entry[2][4] or before[2]
if upto < 1 or not at then return {'absent'} end
if not entry then
    local old = redis.call('HMGET', kept, 'state', 'sum')
    local is_unsealed = not old[2] and upto <= tonumber(found[6])
    if not old[1] or not (is_unsealed or old[2] == sealed(found[1], before[1], at, old[1])) then return {'damaged'} end
end
local sum = sealed(found[1], string.format('%.0f', upto), at, state)
redis.call('HSET', kept, 'version', string.format('%.0f', upto), 'at', at, 'state', state, 'sum', sum)
-- The last batch stays, always: a reader finds by it that the log goes on where it was left.
local covered, gone, going = math.min(upto, version - 1), 0, true
while going do
    local old = {}
    local entries = redis.call('XRANGE', log, gone + 1, covered, 'COUNT', 500)
    for _, one in ipairs(entries) do
        if tonumber(one[2][4]) >= since then break end
        old[#old + 1] = one[2][2]
        gone = tonumber(string.match(one[1], '^%d+'))
    end
    if #old > 0 then redis.call('HDEL', ids, unpack(old)) end
    going = #old == 500
end
if gone > 0 then redis.call('XTRIM', log, 'MINID', gone + 1) end
return {'done'}
"""
)


def opening(migrations: Sequence[Migration]) -> Script:
    """Return the script that makes a log, or brings an older one to the newest schema: all steps happen, or none.

    ARGV: a name for a new journal, clock or '', a version that was witnessed or 0.
    """
    steps = "".join(f"if schema <= {number} then\n{lua}\nend\n" for number, lua in enumerate(migrations))
    return Script.of(
        f"""
{_SEALED}
local head, log, ids, kept = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local new_journal = ARGV[1]
local found = redis.call('HGET', head, 'schema')
local schema = tonumber(found or 0)
if not found and redis.call('EXISTS', head, log, ids, kept) > 0 then return {{'damaged'}} end
if schema > {len(migrations)} then return {{'newer', schema}} end
{steps}
local last = redis.call('HMGET', head, 'journal', 'version', 'id', 'at', 'unsealed', 'sum')
for field = 1, 5 do
    if not last[field] then return {{'damaged'}} end
end
local sum = sealed(last[1], last[2], last[3], last[4], last[5])
if schema < {len(migrations)} then redis.call('HSET', head, 'schema', {len(migrations)}, 'sum', sum)
elseif last[6] ~= sum then return {{'damaged'}} end
local now = ARGV[2]
if now == '' then
    local time = redis.call('TIME')
    now = string.format('%.0f', time[1] * 1000000 + time[2])
end
if tonumber(last[2]) > 0 and redis.call('EXISTS', log, ids) < 2 then return {{'damaged'}} end
local witnessed = redis.call('XRANGE', log, ARGV[3], ARGV[3])[1]
return {{'open', now, last, witnessed and witnessed[2][2] or false}}
"""
    )
