"""What /metrics shows, in Prometheus' form. Labels are names of our own making: nothing that a client sent."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from xrouter_sim.serving.served import Served

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        self.requests = Counter("xrouter_requests", "Requests by HTTP status and code.", ["status", "code"], **own)
        self.calls = Counter("xrouter_calls", "Calls by model and outcome.", ["model", "outcome"], **own)
        self.cost = Counter("xrouter_cost_usd", "Cost of answered requests in USD, by model.", ["model"], **own)
        self.under_way = Gauge("xrouter_requests_under_way", "Requests being answered.", **own)
        self.seconds = Histogram("xrouter_request_seconds", "From request to answer.", buckets=SECONDS, **own)
        self.decision = Histogram("xrouter_decision_seconds", "What the router took.", buckets=SECONDS, **own)

    def answered(self, served: Served, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels("200", "ok").inc()
        self.seconds.observe(seconds)
        self.decision.observe(served.decision_s)
        for call in served.trace.calls:
            self.calls.labels(call.model, call.outcome).inc()
            self.cost.labels(call.model).inc(call.cost_usd)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self.registry)
