"""Accuracy domain by domain, and means over named groups of domains, each domain counting alike.

So RouterDC (arXiv 2409.19886) reports: a mean over data sets, in distribution and out of it, whatever their sizes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from responses_db import LabError
from xrouter_sim.evaluation.metrics import Array
from xrouter_sim.evaluation.runs import Panel
from xrouter_sim.evaluation.statistics import REPLICATES, Bootstrap, Figure, figure


@dataclass(frozen=True)
class ByDomain:
    """One router's accuracy at one setting."""

    router: str
    setting: float
    domains: dict[str, Figure]
    groups: dict[str, Figure]  # group -> mean over its domains


def groups_of(pairs: Iterable[str]) -> dict[str, list[str]]:
    """`NAME=domain,domain` texts as domains by name. Raises LabError on what is no such pair.

    >>> groups_of(["in=mmlu,gsm8k", "out=mbpp"])
    {'in': ['mmlu', 'gsm8k'], 'out': ['mbpp']}
    """
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, domains = pair.partition("=")
        named = [domain for domain in domains.split(",") if domain]
        if not (name and named):
            raise LabError(f"--groups {pair}: write NAME=DOMAIN,DOMAIN, as in in=mmlu,gsm8k")
        if name in found or len(set(named)) < len(named):
            raise LabError(f"--groups {pair}: a group or a domain stands twice; name each once")
        found[name] = named
    return found


def by_domain(
    panels: Mapping[str, Panel],
    groups: Mapping[str, list[str]],
    *,
    at: float,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[ByDomain]:
    """Every router's accuracy in each domain, and the mean over the domains of each group, at the setting nearest to
    `at`; all routers resampled together. Raises LabError when a group names a domain that no query has."""
    first = next(iter(panels.values()))
    domains = sorted(set(first.domains))
    for name, members in groups.items():
        if unknown := [domain for domain in members if domain not in domains]:
            raise LabError(
                f"--groups {name}: no test query is of {', '.join(unknown)} (there are {', '.join(domains)})"
            )
    bootstrap = Bootstrap(len(first.queries), replicates, seed)
    member = np.array([[domain == name for domain in first.domains] for name in domains], np.float64)
    size = bootstrap.means(member)
    return [_by_domain(panel, panel.nearest(at), domains, groups, bootstrap, member, size) for panel in panels.values()]


def _by_domain(
    panel: Panel,
    here: int,
    domains: list[str],
    groups: Mapping[str, list[str]],
    bootstrap: Bootstrap,
    member: Array,
    size: Array,
) -> ByDomain:
    right = bootstrap.means(member * panel.score[:, here].mean(axis=0))
    # A small domain may be missing from a replicate: then the replicate tells nothing of it.
    means = dict(zip(domains, np.where(size > 0, right / np.where(size > 0, size, 1.0), np.nan).T, strict=True))
    together = {name: np.mean([means[domain] for domain in named], axis=0) for name, named in groups.items()}
    return ByDomain(
        panel.router,
        float(panel.settings[here]),
        {domain: figure(rows) for domain, rows in means.items()},
        {name: figure(rows) for name, rows in together.items()},
    )
