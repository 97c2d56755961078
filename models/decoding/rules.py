"""Which tokens may come next: Whisper's timestamp rules and suppress lists, for every row of a batch at once.

The rules are those of openai/whisper `decoding.py` (`SuppressBlank`, `SuppressTokens`, `ApplyTimestampRules`), written
without branches: each row carries the little of its history that they look at.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.tokens import SpecialTokens

_NEVER = -jnp.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the rules look at, each [batch].

    sampled: int32, tokens sampled so far.
    last, before_last: int32, the last two tokens; what stands before the first sampled token is not looked at.
    last_timestamp: int32, the latest timestamp token, -1 if there is none yet.
    """

    sampled: Array
    last: Array
    before_last: Array
    last_timestamp: Array


@dataclass(frozen=True)
class Rules:
    """The rules of one checkpoint. Static: a new value costs a compilation."""

    special: SpecialTokens
    n_vocab: int

    def _table(self, ids: tuple[int, ...]) -> np.ndarray:
        table = np.zeros(self.n_vocab, bool)
        table[list(ids)] = True
        return table

    def log_probabilities(self, logits: Array, history: History) -> Array:
        """Log-probabilities of the next token, -inf where a rule forbids it.

        Args:
            logits: float32 [batch, n_vocab].
            history: of each row.

        Returns:
            float32 [batch, n_vocab].
        """
        special = self.special
        begin = special.timestamp_begin
        ids = jnp.arange(self.n_vocab)[None]
        first = (history.sampled == 0)[:, None]
        last_is_time = ((history.sampled >= 1) & (history.last >= begin))[:, None]
        before_is_time = ((history.sampled < 2) | (history.before_last >= begin))[:, None]
        is_time = ids >= begin

        forbidden = jnp.asarray(self._table((*special.suppressed, special.no_timestamps)))[None]
        forbidden = forbidden | (first & self._table(special.suppressed_at_begin)[None])
        # Timestamps come in pairs, except directly before the end.
        forbidden |= last_is_time & before_is_time & is_time
        forbidden |= last_is_time & ~before_is_time & (ids < special.end_of_text)
        # They never decrease; a segment is not empty, so only the second of a pair may repeat the first.
        lowest = history.last_timestamp[:, None] + jnp.where(last_is_time & ~before_is_time, 0, 1)
        forbidden |= (history.last_timestamp >= 0)[:, None] & is_time & (ids < lowest)
        # The first token is a timestamp, and not a late one.
        forbidden |= first & (~is_time | (ids > begin + special.max_initial_timestamp))

        logp = jax.nn.log_softmax(jnp.where(forbidden, _NEVER, logits), axis=-1)
        # Where all timestamps together are likelier than any text token, it must be a timestamp.
        time_mass = jax.nn.logsumexp(jnp.where(is_time, logp, _NEVER), axis=-1, keepdims=True)
        best_text = jnp.max(jnp.where(is_time, _NEVER, logp), axis=-1, keepdims=True)
        forced = (time_mass > best_text) & ~is_time
        return jax.nn.log_softmax(jnp.where(forced | forbidden, _NEVER, logits), axis=-1)
