"""What an orchestration layer does with a routing action: the page that the simulated and the live engine follow.

An **episode** takes one query to a final answer. It has slots for the responses that came back, a bill in USD and a
clock in seconds, and ends after at most `max_turns` turns.

A **turn** carries out one action:

    ┌───────────┐  calls in parallel   ┌───────────┐  final = CONTINUE, turns left   ┌───────────┐
    │  observe  │ ───────────────────▶ │  collect  │ ──────────────────────────────▶ │  observe  │ …
    └───────────┘                      └───────────┘                                 └───────────┘
                                             │ final = a slot · ADOPT · VOTE · WEIGHTED_VOTE · DIRECT · NONE,
                                             ▼ or the last turn
                                       ┌───────────┐
                                       │   ended   │  the answer is graded, the reward paid
                                       └───────────┘

A turn takes as long as its slowest call; turns add up; the bill is the sum of all attempts.

A **call** asks one arm (a model with a prompt style) for one response:

1. A model that is not on offer is UNAVAILABLE. A call in a turn that begins when the bill has reached the budget, or
   the clock the deadline, is OVER_LIMIT. Both cost nothing, take no time and fill a slot, so that the router sees them.
2. The n-th call of an arm in an episode asks for its n-th sample (in an order drawn per episode). A sample that was
   delivered before, undamaged, comes from the cache: free, at once, as it was.
3. Up to `attempts` attempts. Each has an outcome, a price and a time:

       outcome        billed        takes                     tried again
       OK             in full       its latency               no
       TIMEOUT        in full       timeout_s                 yes     its latency passed timeout_s, or it hung
       RATE_LIMITED   nothing       error_s                   yes
       SERVER_ERROR   nothing       error_s                   yes     so is an outage of the provider
       MALFORMED      in full       its latency               yes     validation found no usable response
       TRUNCATED      in full       its latency               no      cut by max_tokens
       REFUSED        a fifth       its latency               no      short, after a full prompt
       FAILED         as recorded   its latency               no      the recorded call had failed for good

   Providers bill what they generated: an answer that comes too late or broken is paid for, a rejected request is not.
   What the store recorded as truncated or refused keeps its recorded bill.
4. Before attempt k + 1 it waits `backoff_s` · 2^(k−1) · a jitter between 0.5 and 1.5.
5. The deadline cuts: an attempt or a wait that would pass it ends there, as a TIMEOUT.

A **final answer** is the response of a slot (`select`, `ADOPT`: the last one, if it is OK), the first response whose
answer got most votes, each counting 1 (`VOTE`) or its arm's weight (`WEIGHTED_VOTE`), the router's own (`DIRECT`) or
none. ADOPT of a response that is not OK does not end the episode. A response counts with its recorded score; one that
was injected as truncated or refused counts as wrong.

**Luck** is keyed by (seed, episode, arm, attempt) without the turn, attempts counted over the episode: two routers
that call an arm in different turns meet the same response and the same luck, so comparisons are paired closely.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np

from xrouter_sim.engine.arrays import Array


class Outcome(IntEnum):
    """How a call's last attempt came back."""

    OK = 0
    TIMEOUT = 1
    RATE_LIMITED = 2
    SERVER_ERROR = 3
    MALFORMED = 4
    TRUNCATED = 5
    REFUSED = 6
    FAILED = 7
    UNAVAILABLE = 8
    OVER_LIMIT = 9


RETRIED = (Outcome.TIMEOUT, Outcome.RATE_LIMITED, Outcome.SERVER_ERROR, Outcome.MALFORMED)

DELIVERED = (Outcome.OK, Outcome.TRUNCATED, Outcome.REFUSED, Outcome.FAILED)
"""Outcomes after which the sample has been used up and lies in the cache."""

BILLED_SHARE = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.2, 1.0, 0.0, 0.0])
"""Share of the recorded cost that an attempt with each injected outcome is billed."""

FROM_STATUS = np.array([Outcome.OK, Outcome.TRUNCATED, Outcome.REFUSED, Outcome.FAILED])
"""Outcome of a recorded status, in the order of `replay.STATUSES`."""


class Final(IntEnum):
    """How a turn ends; a number from 0 up selects the response in that slot."""

    CONTINUE = -1
    NONE = -2
    VOTE = -3
    ADOPT = -4
    DIRECT = -5
    WEIGHTED_VOTE = -6


NO_CALL = -1


@dataclass
class Action:
    """What a router does in one turn, for B episodes."""

    calls: Array  # [B, W] arms to call in parallel, NO_CALL where fewer
    final: Array  # [B] a Final, or a slot number

    @classmethod
    def call(cls, arm: Array, final: Final = Final.CONTINUE) -> Self:
        """One call each, of the NumPy arms [B]."""
        return cls(arm[:, None], np.full(len(arm), final, np.int64))
