"""Tells an episode in words: reads the engine's state of one episode and hands it to a wording."""

from typing import Protocol

import numpy as np

from xrouter_sim.engine.episodes import ATTEMPTS, CACHED, RECORDED, SAMPLE, Episodes, Observation, field_of
from xrouter_sim.engine.semantics import Final, Outcome
from xrouter_sim.engine.simulator import NO_LIMIT, Simulator
from xrouter_sim.envs.pool_text import Left, Offer, Response, alias, letter
from xrouter_sim.envs.texts import Texts
from xrouter_sim.replay import Ints


class Wording(Protocol):
    """A module of functions that put things into words: `pool_text`, in full sentences, or `brief_text`, in few tokens.

    Costs in USD, times in seconds. `worth` is the spending at which a right answer is worth nothing any more.
    """

    INSTRUCTIONS: str
    NOT_USABLE: str

    def pool_text(
        self, offers: list[Offer], styles: list[str], penalty: float, worth: float, left: Left, can_answer: bool
    ) -> str: ...

    def response_text(self, response: Response, longest: int, worth: float) -> str: ...

    def state_text(self, usd: float, seconds: float, left: Left, worth: float) -> str: ...

    def not_called_text(self, models: list[str]) -> str: ...

    def end_text(self, ending: int, final: int) -> str: ...


class Narrator:
    """Episodes are batches of one, on NumPy."""

    def __init__(
        self, simulator: Simulator, texts: Texts, queries: Ints, longest: int, wording: Wording, letters: bool = False
    ) -> None:
        """Expected costs come from the training queries, or from `queries` [n] where there are none; responses are cut
        to about `longest` characters; with `letters` a model is called by a letter, the same in every episode."""
        replay = simulator.replay
        self._wording = wording
        self._own_names = [letter(place) for place in range(len(replay.model_ids))] if letters else replay.model_ids
        self._simulator, self._replay, self._texts, self._longest = simulator, replay, texts, longest
        train = np.flatnonzero(replay.splits == "train")
        known = replay.mean_cost[train if len(train) else queries].mean(axis=0)
        self._list_usd = known.reshape(-1, len(replay.prompt_styles))  # [M, S] a call at list price

    def names(self, episodes: Episodes) -> list[str]:
        """[M] what each model is called in this episode."""
        if not self._simulator.profile.pools.aliases:
            return self._own_names
        return [alias(int(place)) for place in self._simulator.place(episodes.world)[0]]

    def offered(self, episodes: Episodes) -> list[str]:
        """Names of the models on offer, in the order of the pool."""
        names = self.names(episodes)
        return [names[model] for model in self._models_on_offer(episodes)]

    def _models_on_offer(self, episodes: Episodes) -> list[int]:
        on_offer = self._simulator.on_offer(episodes.world)[0]
        return [int(model) for model in self._simulator.order(episodes.world)[0] if on_offer[model]]

    def pool(self, episodes: Episodes) -> str:
        """What an episode begins with."""
        price, names = self._simulator.price(episodes.world, episodes.period)[0], self.names(episodes)
        offers = []
        for model in self._models_on_offer(episodes):
            card, factor = self._texts.card(model), float(price[model])
            today = (card[0] * factor, card[1] * factor) if card else None
            offers.append(Offer(names[model], today, (self._list_usd[model] * factor).tolist()))
        can_answer = self._texts.can_grade(int(episodes.query[0]))
        penalty, worth = float(episodes.penalty[0]), self._worth(episodes)
        left, styles = self._left(episodes), self._replay.prompt_styles
        return self._wording.pool_text(offers, styles, penalty, worth, left, can_answer)

    def turn(self, episodes: Episodes, before: int, calls: list[int], final: int) -> str:
        """What came of a turn of these calls (arms) and this final, begun with `before` responses."""
        seen, names = self._simulator.observe(episodes), self.names(episodes)
        slots = range(before, int(episodes.n_slots[0]))
        worth, wording = self._worth(episodes), self._wording
        told = [wording.response_text(self._response(seen, slot, names), self._longest, worth) for slot in slots]
        if dropped := calls[len(slots) :]:
            models = dict.fromkeys(names[self._replay.model_of_arm[arm]] for arm in dropped)
            told.append(wording.not_called_text(list(models)))
        if episodes.done[0]:
            told.append(wording.end_text(int(episodes.ending[0]), int(episodes.final[0])))
        else:
            if final == Final.ADOPT:
                told.append(wording.NOT_USABLE)
            spent = float(episodes.cost[0]), float(episodes.time[0])
            told.append(wording.state_text(*spent, self._left(episodes), worth))
        return "\n\n".join(told)

    def _worth(self, episodes: Episodes) -> float:
        penalty = float(episodes.penalty[0])
        return self._simulator.cost_unit / penalty if penalty > 0 else NO_LIMIT

    def _left(self, episodes: Episodes) -> Left:
        client = self._simulator.profile.client
        return Left(
            turns=client.max_turns - int(episodes.turn[0]),
            calls=client.max_calls - int(episodes.n_slots[0]),
            usd=float(episodes.budget[0] - episodes.cost[0]),
            seconds=float(episodes.deadline[0] - episodes.time[0]),
        )

    def _response(self, seen: Observation, slot: int, names: list[str]) -> Response:
        replay, styles = self._replay, self._replay.prompt_styles
        word, arm, query = seen.words[0, slot], int(seen.arm[0, slot]), int(seen.query[0])
        sample, answer = int(field_of(word, SAMPLE)), seen.answer[0]
        same = np.flatnonzero(answer[:slot] == answer[slot]) + 1
        return Response(
            number=slot + 1,
            model=names[replay.model_of_arm[arm]],
            style=styles[arm % len(styles)] if len(styles) > 1 else None,
            outcome=Outcome(int(seen.outcome[0, slot])),
            attempts=int(field_of(word, ATTEMPTS)),
            cached=bool(field_of(word, CACHED)),
            text=self._texts.response(query, arm, sample) if field_of(word, RECORDED) else None,
            tokens=int(replay.tokens[query, arm, sample]),
            usd=float(seen.slot_cost[0, slot]),
            seconds=float(seen.slot_time[0, slot]),
            agrees=same.tolist() if answer[slot] >= 0 else None,
        )
