"""What the tests of harvesting share."""

from collections.abc import Iterator

import pytest

from responses_db.providers import client
from tests.responses_db.worlds import KEY, FlakyEndpoint, running


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyEndpoint]:
    """A misbehaving endpoint that wants a key, and a client that loses no time between attempts."""
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("FLAKY_API_KEY", KEY)
    with running(FlakyEndpoint()) as flaky:
        yield flaky
