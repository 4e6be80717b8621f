"""A language model plays episodes: many conversations at once, one batch of generated turns after the other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from trl.chat_template_utils import parse_response

from xrouter_sim.envs.actions import Call
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.llm.conversation import Conversation, tools_of


@dataclass(frozen=True)
class PriceCard:
    """What the router's own tokens cost, in USD per million."""

    input_usd: float = 0.05
    output_usd: float = 0.08

    def usd(self, read: int, written: int) -> float:
        return (self.input_usd * read + self.output_usd * written) / 1e6


@dataclass
class Speaker:
    """A model that says the next turn of many conversations. `temperature` 0 is greedy."""

    model: Any
    tokenizer: Any
    most_tokens: int
    temperature: float = 0.0
    batch: int = 32
    bf16: bool = False

    @torch.inference_mode()
    def next_turns(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """What is said after each of these tokens, up to the end of the turn."""
        said: list[list[int]] = [[]] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))  # little padding
        for start in range(0, len(order), self.batch):
            places = order[start : start + self.batch]
            padded = self.tokenizer.pad({"input_ids": [prompts[place] for place in places]}, return_tensors="pt")
            padded = {name: values.to(self.model.device) for name, values in padded.items()}
            sampling = {"do_sample": True, "temperature": self.temperature} if self.temperature else {}
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
                tokens = self.model.generate(
                    **padded,
                    max_new_tokens=self.most_tokens,
                    **({"do_sample": False, "temperature": None, "top_p": None, "top_k": None} | sampling),
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=self.tokenizer.eos_token_id,
                )
            width = padded["input_ids"].shape[1]
            for place, line in zip(places, tokens[:, width:].tolist(), strict=True):
                said[place] = _up_to(line, self.tokenizer.eos_token_id)
        return said


@dataclass
class Played:
    """A conversation that is over, and what the router itself read and wrote."""

    talk: Conversation
    read: int = 0
    written: int = 0
    turns: int = 0


@dataclass
class Rollout:
    """Finished episodes in the order of the rows, and where the time went (seconds)."""

    played: list[Played]
    seconds: float = 0.0
    seconds_generating: float = 0.0
    tokens_written: int = field(default=0)


def roll_out(speaker: Speaker, envs: Sequence[TextEpisode], rows: Sequence[dict[str, Any]], card: PriceCard) -> Rollout:
    """Play one episode for each row, in `envs` ([as many] environments), and put the router's own tokens on the bill.

    A prompt that a turn shares with the turn before is read once: routers keep what they have read.
    """
    clock = time.perf_counter()
    all_played = [Played(Conversation.begin(env, row)) for env, row in zip(envs, rows, strict=True)]
    result = Rollout(all_played)
    prompts: list[list[int]] = [_opening(speaker.tokenizer, each.talk) for each in all_played]
    live = list(range(len(all_played)))
    while live:
        started = time.perf_counter()
        said = speaker.next_turns([prompts[place] for place in live])
        result.seconds_generating += time.perf_counter() - started
        for place, tokens in zip(live, said, strict=True):
            each, prompt = all_played[place], prompts[place]
            each.turns += 1
            each.written += len(tokens)
            text, calls = _read(speaker.tokenizer, tokens, prompt, each.talk.env)
            before = len(each.talk.messages)
            each.talk.says(text, calls)
            told = each.talk.messages[before + 1 :]
            if not calls and not each.talk.over:
                each.talk.env.get_reward()  # words that are no answer end an episode too
            suffix = [] if each.talk.over else _suffix(speaker.tokenizer, told)
            prompts[place] = prompt + tokens + suffix
        live = [place for place in live if not all_played[place].talk.over]
    for each, prompt in zip(all_played, prompts, strict=True):
        each.read = len(prompt) - each.written
        each.talk.env._charge(card.usd(each.read, each.written))
        result.tokens_written += each.written
    result.seconds = time.perf_counter() - clock
    return result


def _opening(tokenizer: Any, talk: Conversation) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        talk.messages, tools=tools_of(talk.env), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return ids


def _read(tokenizer: Any, tokens: list[int], prompt: list[int], env: TextEpisode) -> tuple[str, list[Call]]:
    """Text and tool calls of a generated turn, read as TRL reads them in training."""
    message = parse_response(tokenizer, tokens, prefix=prompt, tools=tools_of(env))
    functions = [call.get("function", call) for call in message.get("tool_calls") or []]
    calls = [(str(function["name"]), _arguments(function.get("arguments"))) for function in functions]
    return str(message.get("content") or ""), calls


def _arguments(given: Any) -> dict[str, Any]:
    return dict(given) if isinstance(given, dict) else {}


def _suffix(tokenizer: Any, told: Sequence[dict[str, Any]]) -> list[int]:
    """Tokens of the tools' results, from the end of the policy's turn to the beginning of its next one."""
    call = {"type": "function", "function": {"name": told[0]["name"], "arguments": {}}}
    before = [{"role": "user", "content": "-"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    texts = [
        tokenizer.apply_chat_template(messages, add_generation_prompt=bool(more), tokenize=False)
        for messages, more in ((before, 0), ([*before, *told], 1))
    ]
    end = tokenizer.eos_token
    head = texts[0][: texts[0].rindex(end) + len(end)]
    ids: list[int] = tokenizer(texts[1][len(head) :], add_special_tokens=False)["input_ids"]
    return ids


def _up_to(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens
