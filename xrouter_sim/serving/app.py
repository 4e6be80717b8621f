"""The endpoint: /v1/chat/completions, /v1/models, /healthz, /metrics. Every error has OpenAI's form.

A request goes through the key, its size and time, its form and the key's rate limit before anything is decided, in this
order. Neither prompts nor answers nor keys are logged.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from xrouter_sim.serving import wire
from xrouter_sim.serving.asked import MODEL, Asked, read_request
from xrouter_sim.serving.errors import Refusal, invalid
from xrouter_sim.serving.ledger import Key, Ledger, find_key
from xrouter_sim.serving.metered import Mouth
from xrouter_sim.serving.metrics import Metrics
from xrouter_sim.serving.served import Backend, Served

log = logging.getLogger("xrouter_sim.serving")

LOCAL = ("localhost", "127.0.0.1", "[::1]")
KEYS_READ_AGAIN_S = 1.0
"""How long a revoked key may still open."""


@dataclass(frozen=True)
class Limits:
    """What a request may be and take."""

    body_bytes: int = 1 << 20
    body_s: float = 10.0
    """Seconds for the body to arrive."""
    request_s: float = 300.0
    """Seconds until there must be an answer."""
    at_once: int = 256
    """Requests that are answered at a time; others wait."""


class Endpoint:
    """What the routes do. `open_to_all`: no key is asked for (on loopback alone)."""

    def __init__(self, backend: Backend, ledger: Ledger, limits: Limits, *, open_to_all: Key | None) -> None:
        self.backend, self.ledger, self.limits, self.open_to_all = backend, ledger, limits, open_to_all
        self.metrics = Metrics()
        self._turnstile = asyncio.Semaphore(limits.at_once)
        self._keys, self._keys_at = ledger.all_keys(), time.monotonic()

    async def who(self, request: Request) -> Key:
        """Whose request it is. Raises Refusal for a missing or wrong key."""
        if self.open_to_all is not None:
            host = request.headers.get("host", "").rsplit(":", 1)[0]
            if host not in LOCAL:  # a web page that calls its own name 127.0.0.1 must not get through
                raise invalid("without a key only this machine is served: ask for 127.0.0.1", "host", 403)
            return self.open_to_all
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if time.monotonic() - self._keys_at >= KEYS_READ_AGAIN_S:
            self._keys_at = time.monotonic()  # others go on with those that are known, meanwhile
            self._keys = await asyncio.to_thread(self.ledger.all_keys)
        key = find_key(self._keys, given.strip()) if scheme.lower() == "bearer" and given.strip() else None
        if key is None:
            message = "no such key: send one as `Authorization: Bearer KEY`"
            raise Refusal(401, "invalid_request_error", "invalid_api_key", message)
        return key

    async def body(self, request: Request) -> bytes:
        """The body. Raises Refusal where it is too large or comes too slowly."""
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise invalid("the content type must be application/json", "content_type", 415)
        raw = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for part in request.stream():
                    raw += part
                    if len(raw) > self.limits.body_bytes:
                        most = f"{self.limits.body_bytes:,} bytes"
                        raise invalid(f"the body is larger than {most}", "too_large", 413)
        except TimeoutError:
            raise invalid(f"the body took more than {self.limits.body_s:g} s", "too_slow", 408) from None
        return bytes(raw)

    async def complete(self, request: Request) -> Response:
        """POST /v1/chat/completions"""
        began, request_id = time.perf_counter(), f"chatcmpl-{secrets.token_hex(12)}"
        key = await self.who(request)
        asked = read_request(await self.body(request), request.headers, self.backend.models, self.backend.domains)
        if key.per_minute is not None and (wait := await self.ledger.admit(key.key_id)):
            message = f"the key may make {key.per_minute} requests a minute: wait {wait:.0f} s"
            raise Refusal(429, "rate_limit_error", "rate_limit_exceeded", message, retry_after_s=wait)
        if asked.stream:
            return await self._stream(asked, request_id, key, began)
        served = await self._answer(asked, request_id, key, began, None)
        return JSONResponse(wire.completion(served, request_id, asked.model), headers={"x-request-id": request_id})

    async def _answer(self, asked: Asked, request_id: str, key: Key, began: float, mouth: Mouth | None) -> Served:
        try:
            async with asyncio.timeout(self.limits.request_s), self._turnstile:
                with self.metrics.under_way.track_inprogress():
                    served = await self.backend.answer(asked, request_id, key.key_id, mouth)
        except TimeoutError:
            raise Refusal(504, "timeout", "timeout", f"no answer within {self.limits.request_s:g} s") from None
        seconds = time.perf_counter() - began
        self.metrics.answered(served, seconds)
        usd, by = served.trace.cost_usd, served.metadata["answered_by"]
        log.info("%s key=%s answered_by=%s usd=%.9f s=%.3f", request_id, key.name, by, usd, seconds)
        return served

    async def _stream(self, asked: Asked, request_id: str, key: Key, began: float) -> Response:
        """A stream begins with its first piece: what fails before it is told by the HTTP status."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        mouth = Mouth(pieces.put_nowait)
        answer = asyncio.create_task(self._answer(asked, request_id, key, began, mouth))
        answer.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            first = await pieces.get()
            if first is None:
                answer.result()
        except asyncio.CancelledError:
            answer.cancel()
            raise

        async def events() -> AsyncIterator[bytes]:
            text, is_first = first, True
            try:
                while text is not None:
                    yield wire.piece(request_id, asked.model, text, first=is_first)
                    text, is_first = await pieces.get(), False
                served = answer.result()
                if not mouth.said:
                    yield wire.piece(request_id, asked.model, served.text, first=True)
                yield wire.ending(request_id, asked.model, served, include_usage=asked.include_usage)
            except Exception as error:
                refusal = error if isinstance(error, Refusal) else internal(error)
                self.metrics.requests.labels("200", refusal.code).inc()
                yield wire.broken(refusal)
            finally:
                answer.cancel()  # the client has gone: what is under way is charged in full

        return StreamingResponse(events(), media_type="text/event-stream", headers={"x-request-id": request_id})

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models"""
        await self.who(request)
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "xrouter-sim"}
            for name in [MODEL, *self.backend.models]
        ]
        return JSONResponse({"object": "list", "data": models})

    async def tell_metrics(self, request: Request) -> Response:
        """GET /metrics"""
        await self.who(request)
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")


def internal(error: Exception) -> Refusal:
    """What is told of an error of ours. Its message may hold a prompt, so it is neither told nor logged."""
    log.error("internal error: %s", type(error).__name__)
    return Refusal(500, "server_error", "internal", "an internal error: the server's log has its kind")


async def guarded(answer: Awaitable[Response]) -> Response:
    """Here and not in a handler of the framework, which would print the error as well."""
    try:
        return await answer
    except Refusal:
        raise
    except Exception as error:
        raise internal(error) from None


def make_app(endpoint: Endpoint) -> FastAPI:
    """The application. No documentation pages: they would fetch scripts from elsewhere."""
    app = FastAPI(title="xrouter-sim", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await guarded(endpoint.complete(request))

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        return await guarded(endpoint.list_models(request))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        return await guarded(endpoint.tell_metrics(request))

    def told(refusal: Refusal) -> Response:
        endpoint.metrics.requests.labels(str(refusal.status), refusal.code).inc()
        headers = {} if refusal.retry_after_s is None else {"retry-after": str(int(refusal.retry_after_s) + 1)}
        return JSONResponse(refusal.body(), refusal.status, headers)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        return told(refusal)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        return told(invalid("no such path: there is /v1/chat/completions", "not_found", error.status_code))

    return app
