"""Plays a trace again in the simulator: the world answers as it is written there, the engine does the rest.

From the trace come the router's actions and how every attempt came back when it was sent: outcome, seconds, bill. From
the engine come the samples that are asked for, waits, retries, the deadline's cuts, what is over the limit or in the
cache, votes, the end and the reward. So where the two traces agree, simulated and live engine follow one page.
"""

from dataclasses import replace

import numpy as np

from responses_db import LabError
from xrouter_sim.engine.arrays import Array, Arrays, golden_steps
from xrouter_sim.engine.calls import Attempt, Caller, Calls
from xrouter_sim.engine.profile import Pools, Profile
from xrouter_sim.engine.randomness import Purpose, counter, episode_words
from xrouter_sim.engine.recording import TracedSimulator
from xrouter_sim.engine.semantics import FROM_STATUS, NO_CALL, Action, Final, Outcome
from xrouter_sim.engine.trace import AttemptTrace, CallTrace, EpisodeTrace, TurnTrace
from xrouter_sim.engine.world import World
from xrouter_sim.replay import EVIDENCE, Replay

Script = dict[int, AttemptTrace]
"""State of the episode's stream at an attempt (see `calls`) to how the attempt went."""

NOT_IN_THE_SCRIPT = AttemptTrace("failed", sent=True, recorded=False, waited_s=0.0, seconds=0.0, cost_usd=0.0)
"""What comes back when more is asked than was written down: it shows as a difference between the traces."""


def replayed(trace: EpisodeTrace) -> EpisodeTrace:
    """The same episode, played in the simulator. Raises LabError where the trace contradicts itself."""
    recorded_by = replay_of(trace)
    off_offer = tuple(offer.model for offer in trace.pool if not offer.on_offer)
    profile = Profile.from_tables(str(trace.profile["name"]), {"client": trace.profile["client"]})
    profile = replace(profile, pools=Pools(held_out=off_offer))
    simulator = TracedSimulator(
        recorded_by,
        profile,
        trace.seed,
        trace.cost_unit_usd,
        direct_arm=None if trace.direct is None else recorded_by.arm_names.index(trace.direct),
        vote_weights=trace.vote_weights,
    )
    simulator.caller = ScriptedCaller(recorded_by, simulator.world, profile, simulator.xp, script_of(trace))
    episodes = simulator.reset(
        np.zeros(1, np.int64),
        np.array([trace.episode]),
        np.array([trace.penalty]),
        budget=None if trace.budget_usd is None else np.array([trace.budget_usd]),
        deadline=None if trace.deadline_s is None else np.array([trace.deadline_s]),
    )
    for turn in trace.turns:
        simulator.step(episodes, _action(turn, trace.arm_names))
    if not episodes.done.all():
        raise LabError(f"the trace of episode {trace.episode} stops before the episode ends")
    texts = {
        (trace.query_id, call.model, call.prompt_style, call.sample): (call.text, call.answer)
        for call in trace.calls
        if _delivered(call)
    }
    return simulator.traces(episodes, trace.router, texts)[0]


def script_of(trace: EpisodeTrace) -> Script:
    """Every attempt by its place in the episode's stream of luck."""
    arms, script, tried = trace.arm_names, Script(), dict[int, int]()
    word = episode_words(trace.seed, np.array([trace.episode]))
    for call in trace.calls:
        arm = arms.index(_arm_name(call, trace))
        for number, attempt in enumerate(call.attempts):
            place = counter(Purpose.CALL, np.array([arm]), tried.get(arm, 0) + number)
            script[int((word + golden_steps(place))[0])] = attempt
        tried[arm] = tried.get(arm, 0) + sum(attempt.sent for attempt in call.attempts)
    return script


def replay_of(trace: EpisodeTrace) -> Replay:
    """The one query with the responses that the trace shows; what was never delivered scores 0 and is never played."""
    samples = np.ones((1, len(trace.arm_names)), np.int64)
    for call in trace.calls:
        samples[0, trace.arm_names.index(_arm_name(call, trace))] = call.samples
    shape = (*samples.shape, int(samples.max()))
    score, answer, status = np.zeros(shape), np.full(shape, -1), np.zeros(shape, np.int64)
    answers = sorted({call.answer for call in trace.calls if call.answer is not None})
    for call in trace.calls:
        if _delivered(call):
            place = 0, trace.arm_names.index(_arm_name(call, trace)), call.sample
            score[place] = call.score or 0.0
            answer[place] = -1 if call.answer is None else answers.index(call.answer)
            status[place] = FROM_STATUS.tolist().index(int(Outcome[call.outcome.upper()]))
    return Replay(
        query_ids=[trace.query_id],
        questions=[trace.question],
        domains=np.array([trace.domain]),
        splits=np.array(["test"]),
        model_ids=trace.models,
        prompt_styles=trace.prompt_styles,
        samples=samples,
        score=score,
        cost_usd=np.zeros(shape),
        tokens=np.full(shape, -1),
        latency_s=np.full(shape, np.nan),
        answer=answer,
        status=status,
        evidence=np.zeros((*shape, len(EVIDENCE))),
        store=trace.store,
    )


def _action(turn: TurnTrace, arm_names: list[str]) -> Action:
    final = turn.selected if turn.selected is not None else int(Final[turn.final.upper()])
    calls = [arm_names.index(name) for name in turn.asked] or [NO_CALL]
    return Action(np.array([calls]), np.array([final]))


class ScriptedCaller(Caller):
    """A Caller to whom every attempt comes back as it is written. To be traced: then no call takes the short way."""

    def __init__(self, replay: Replay, world: World, profile: Profile, xp: Arrays, script: Script) -> None:
        super().__init__(replay, world, profile, xp)
        self.script = script

    def _undisturbed(self, calls: Calls, bits: Array) -> tuple[Array, Array, Array]:
        lines = self._lines(calls)
        outcome = np.array([int(Outcome[line.outcome.upper()]) for line in lines])
        return outcome, np.array([line.recorded for line in lines]), np.array([line.seconds for line in lines])

    def _one_attempt(self, calls: Calls, bits: Array, number: int, elapsed: Array) -> Attempt:
        went = super()._one_attempt(calls, bits, number, elapsed)
        return replace(went, cost=np.array([line.cost_usd for line in self._lines(calls)]) * went.sent)

    def _lines(self, calls: Calls) -> list[AttemptTrace]:
        return [self.script.get(state, NOT_IN_THE_SCRIPT) for state in calls.state.tolist()]


def _delivered(call: CallTrace) -> bool:
    """Whether the call brought its sample as it is stored, whole or cut."""
    return call.cached or bool(call.attempts and call.attempts[-1].recorded)


def _arm_name(call: CallTrace, trace: EpisodeTrace) -> str:
    name = call.model if len(trace.prompt_styles) == 1 else f"{call.model}/{call.prompt_style}"
    if name not in trace.arm_names:
        raise LabError(f"the trace of episode {trace.episode} calls {name}, which is not among its models")
    return name
