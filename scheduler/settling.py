"""Settling: of what lies in a folder, what is new, and whole as far as can be told from outside; pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping


class Settling:
    """Remembers what was seen when. Whoever writes a file changes its size or its time; one that rests is whole.

    Args:
        seconds: that it must rest.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        #: By name: what it looked like, and since when.
        self._resting: dict[str, tuple[Hashable, float]] = {}
        self._done: dict[str, Hashable] = {}

    def ready(self, there: Mapping[str, Hashable], now: float) -> list[str]:
        """Names of what has rested for long enough and is not done, in their order.

        Args:
            there: all that is there now, and what each looks like: another look is another content.
            now: seconds, by any clock.
        """
        found = []
        for name in [name for name in self._resting if name not in there]:
            del self._resting[name]
        for name, look in sorted(there.items()):
            if name in self._done and self._done[name] == look:
                continue
            before, since = self._resting.get(name, (None, now))
            if before != look:
                since = now
                self._resting[name] = (look, now)
            if now - since >= self._seconds:
                found.append(name)
        return found

    def done(self, name: str, look: Hashable) -> None:
        """It was taken, or never will be, as long as it looks like that."""
        self._done[name] = look
        self._resting.pop(name, None)
