"""`xrouter-sim bench env`: how fast episodes are played."""

import click

from xrouter_sim.cli.bench import bench_group, print_figures
from xrouter_sim.cli.options import JSON


@bench_group.command("env")
@click.option("--batch", type=click.IntRange(min=1), default=65_536, show_default=True, help="Episodes side by side.")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Measurements a figure.")
@click.option("--large/--no-large", default=True, show_default=True, help="Also 1,000,000 queries × 32 models (3 GB).")
@JSON
def bench_env(batch: int, rounds: int, large: bool, as_json: bool) -> None:
    """Measure the simulated engine: steps a second, as ratios to references measured in turn with it.

    \b
    vs_sync_vector_env      steps a second over those of Gymnasium's SyncVectorEnv with 64 scalar environments
    vs_sync_vector_env_4096 the same at a batch of 4,096; …_observed: building the observations too
    vs_bare_kernel          over a compiled loop of one hash and one gather a step, the floor of the work
    vs_bare_kernel_large    the same where no cache holds the replay
    rollout_vs_forward      a rollout of a 256-256 network over the pool, over its forward passes alone
    models_64_vs_4          seconds a step with 64 models over those with 4
    episodes_65536_vs_16384 seconds a step with 65,536 episodes over those with 16,384
    memory_ratio            bytes of replay and simulator over those of the replay
    gpu                     transitions a second on CUDA, or "no GPU"

    A step is one turn of one episode: prices, pools, failures, retries, cost, latency and reward included, and the
    next episode begun when it ends. One thread: on shared cores two can be a hundred times slower than one.

    \b
    Examples:
      xrouter-sim bench env
      xrouter-sim bench env --no-large --rounds 3 --json
    """
    from xrouter_sim.bench.env import run

    print_figures(run(batch, rounds, large), as_json)
