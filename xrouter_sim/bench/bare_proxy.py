"""The reference of `bench serve`: a FastAPI proxy that passes each request to one provider, and does nothing else.

`python -m xrouter_sim.bench.bare_proxy BASE_URL --port N`
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse


def main() -> None:
    """Serve until terminated."""
    base_url, port = sys.argv[1], int(sys.argv[3])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=512)) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> JSONResponse:
        body = await request.json()
        async with app.state.session.post(f"{base_url}/chat/completions", json=body) as response:
            return JSONResponse(json.loads(await response.read()), response.status)

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="error")


if __name__ == "__main__":
    main()
