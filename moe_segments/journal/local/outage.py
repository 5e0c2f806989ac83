"""Warnings about a journal that cannot be used: one for each outage and kind of trouble, then one a minute.

Many parts of a process notice the same outage, some of them several times a second. Without a limit the log of a
fleet fills with one sentence.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AWAY", "Outage"]

AWAY: Final = "away"  # the kind of everybody who waits for the journal to come back
_AGAIN_S: Final = 60.0
_FLAPPING_S: Final = 5.0  # an outage that begins so soon after a warning is taken for the same one


@attrs.define
class Outage:
    """The warnings of one journal.

    Attributes:
        log: The logger of the warnings.
        clock: Seconds, monotonic.
        on_warning: Is told each sentence that is logged as a warning.
        on_end: Is told how long the outage was, seconds, once the journal answers again.
    """

    log: logging.Logger = attrs.field(factory=lambda: logging.getLogger("moe_segments.journal"))
    clock: Callable[[], float] = time.monotonic
    on_warning: Callable[[str], None] | None = None
    on_end: Callable[[float], None] | None = None
    _since_s: float | None = attrs.field(default=None, init=False)  # of the outage that has not ended
    _warned_s: dict[str, float] = attrs.field(factory=dict, init=False)  # when each kind was warned of
    _over: set[str] = attrs.field(factory=set, init=False)  # kinds of an outage that has ended since

    def warn(
        self,
        kind: str,
        text: str,
        *arguments: object,
        error: BaseException | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        """Log a warning, unless one of this *kind* was logged within the last minute of the same outage.

        Args:
            kind: A kind of trouble; each is warned of by itself.
            text: The message, with `%s` for each of *arguments*.
            arguments: Values for the message.
            error: An error to log with its traceback, where it is a mistake of ours.
            log: Another logger than the journal's.
        """
        now_s = self.clock()
        warned_s = self._warned_s.get(kind)
        pause_s = _FLAPPING_S if kind in self._over else _AGAIN_S
        if warned_s is not None and now_s < warned_s + pause_s:
            (log or self.log).debug(text, *arguments, exc_info=error)
            return
        self._warned_s[kind] = now_s
        self._over.discard(kind)
        extra = {"moe_event": "journal_unavailable"}
        level = logging.WARNING if error is None else logging.ERROR
        (log or self.log).log(level, text, *arguments, exc_info=error, extra=extra)
        self._since_s = now_s if self._since_s is None else self._since_s
        if self.on_warning is not None:
            self.on_warning(text % arguments)

    def over(self) -> None:
        """Note that the journal answers: the next outage is warned of at once."""
        if len(self._over) != len(self._warned_s):
            self._over.update(self._warned_s)
        if self._since_s is not None:
            since_s, self._since_s = self._since_s, None
            if self.on_end is not None:
                self.on_end(self.clock() - since_s)
