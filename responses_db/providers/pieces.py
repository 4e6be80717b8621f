"""A chat completion that comes in pieces (server-sent events), put together again."""

import json
from typing import Any

DONE = b"[DONE]"


class Assembly:
    """Takes the lines of an event stream; gives the whole completion at its end."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._error: Any = None

    def add(self, line: bytes) -> str:
        """The text that a line brought; empty where it brought none. ValueError for a line that is no event."""
        name, _, data = line.strip().partition(b":")
        if name != b"data" or data.strip() in (b"", DONE):
            return ""
        event = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("an event that is no object")
        self._error = event.get("error") or self._error
        self._usage = event["usage"] if isinstance(event.get("usage"), dict) else self._usage
        self._head = self._head or {name: event[name] for name in ("id", "model", "created") if name in event}
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self._finish = choice.get("finish_reason") or self._finish
        told = choice.get("delta")
        delta: dict[str, Any] = told if isinstance(told, dict) else {}
        text, refusal = (delta[part] if isinstance(delta.get(part), str) else "" for part in ("content", "refusal"))
        self._texts.append(text)
        self._refusals.append(refusal)
        return text

    def completion(self) -> bytes:
        """The JSON of the answer in one piece. Without a finish reason it broke off, and is no completion."""
        if self._error is not None or self._finish is None:
            return json.dumps({"error": self._error or {"message": "the stream broke off"}}).encode()
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts) or None}
        if any(self._refusals):
            message["refusal"] = "".join(self._refusals)
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        return json.dumps({**self._head, "choices": [choice], "usage": self._usage}).encode()
