"""The tool-calling face in few tokens: an action is a short word and its object.

    >call sim-gpt-5/cot sim-kimi-k2/plain     ask these, in parallel, and read what they say
    >use sim-gpt-5/cot                        ask it, and take what it says as the final answer
    >poll a/plain b/plain c/plain             ask these, and let them vote
    >take 1                                   the first response is the final answer
    >vote                                     the answer that most responses agree on is

and any other text is a direct answer. Six to ten tokens, where JSON takes 25 and more. The chat template that renders
tool calls this way, and the parser that reads them, are in `xrouter_sim.llm.templates`.
"""

from typing import Any, ClassVar

from xrouter_sim.engine.semantics import Final
from xrouter_sim.envs import brief_text
from xrouter_sim.envs.episode_text import MistakeError, TextEpisode
from xrouter_sim.envs.narrator import Wording


class BriefRoutingEnv(TextEpisode):
    """Five tools, each with one argument, `what`. An arm is MODEL, or MODEL/STYLE where there are several styles."""

    wording: ClassVar[Wording] = brief_text

    def call(self, what: str) -> str:
        """
        Ask one or several models at once and read their responses.

        Args:
            what: Models on offer, with /STYLE where there are several prompt styles, separated by spaces.

        Returns:
            The responses, what each cost, and which agree.
        """
        return self._act(lambda: (self._asked(what), Final.CONTINUE))

    def use(self, what: str) -> str:
        """
        Ask a model and take its response as the final answer, if it is usable.

        Args:
            what: A model on offer, with /STYLE where there are several prompt styles. Of several the last one is taken.

        Returns:
            How the episode ended, or the response and why it is not usable.
        """
        return self._act(lambda: (self._asked(what), Final.ADOPT))

    def poll(self, what: str) -> str:
        """
        Ask several models at once; the answer that most responses agree on is the final answer.

        Args:
            what: Models on offer, with /STYLE where there are several prompt styles, separated by spaces.

        Returns:
            How the episode ended.
        """
        return self._act(lambda: (self._asked(what), Final.VOTE))

    def take(self, what: str) -> str:
        """
        End the episode with an earlier response as the final answer.

        Args:
            what: The number of the response.

        Returns:
            How the episode ended.
        """
        return self._act(lambda: ([], self._slot(what)))

    def vote(self, what: str = "") -> str:
        """
        End the episode with the answer that most responses agree on.

        Args:
            what: Nothing.

        Returns:
            How the episode ended.
        """
        return self._act(lambda: ([], Final.VOTE))

    def _asked(self, what: Any) -> list[int]:
        names = str(what or "").split()
        if not names:
            raise MistakeError("Name at least one model.")
        return [self._named(name) for name in names]

    def _named(self, name: str) -> int:
        if name in self._names:
            return self._arm(name, "")
        model, _, style = name.rpartition("/")
        return self._arm(model or name, style if model else "")
