"""A transcript's text while it is made: what is certain of it as soon as it is, chunk by chunk. Pure.

What a chunk says is certain once its seam with the next one is resolved; without an overlap there is none. So the
pieces that are told, joined, are the text of the merged transcript.
"""

from __future__ import annotations

from scheduler.merge import merge_chunks
from stenopool.domain import ChunkResult, Span, join_text


class Growing:
    """The text of a recording whose chunks come in their order.

    Args:
        duration: samples of the recording.
    """

    def __init__(self, duration: int) -> None:
        self._duration = duration
        #: Chunks from the last place on where two met without an overlap.
        self._run: list[ChunkResult] = []
        #: Of the next chunk whose text is not told yet.
        self._next = 0
        #: What is certain, as the chunks say it; and what of its joined text was told.
        self._texts: list[str] = []
        self._told = ""

    def add(self, result: ChunkResult, following: Span | None) -> str:
        """The next chunk, in the order of their indices; what of the text is certain from now on, and was not before.

        Args:
            following: of the chunk after it; None where it is the last one.
        """
        self._run.append(result)
        met = following is None or result.span.intersection(following) is None
        certain = result.index + 1 if met else result.index
        segments = merge_chunks(self._duration, self._run).segments
        self._texts += [segment.text for segment in segments if self._next <= segment.chunk < certain]
        self._next = certain
        if met:
            self._run = []
        # Blanks at an end are not part of the text, unless more comes.
        return self._tell(join_text(self._texts))

    def finish(self, text: str) -> str:
        """What is left to tell of the merged transcript's text; nothing where what was told is not how it begins."""
        return self._tell(text)

    def _tell(self, text: str) -> str:
        if not text.startswith(self._told):
            return ""
        piece = text[len(self._told) :]
        self._told = text
        return piece
