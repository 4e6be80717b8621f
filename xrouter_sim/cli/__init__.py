"""The command line. Heavy imports live inside the commands, so that --help is quick."""

import click

from responses_db.errors import LabError
from xrouter_sim import __version__
from xrouter_sim.cli.bench import bench_group
from xrouter_sim.cli.bench_env import bench_env as bench_env  # adds itself to the group
from xrouter_sim.cli.bench_harvest import bench_harvest as bench_harvest
from xrouter_sim.cli.bench_pairing import bench_pairing as bench_pairing
from xrouter_sim.cli.bench_routers import bench_routers as bench_routers
from xrouter_sim.cli.bench_serve import bench_serve as bench_serve
from xrouter_sim.cli.bench_store import bench_store as bench_store
from xrouter_sim.cli.bounds import bounds
from xrouter_sim.cli.compare import compare
from xrouter_sim.cli.embedding import embed_store
from xrouter_sim.cli.exporting import export as export  # adds itself to the group
from xrouter_sim.cli.harvest import harvest
from xrouter_sim.cli.importing import import_group
from xrouter_sim.cli.pricing import reprice_store as reprice_store  # and `import catalogue`
from xrouter_sim.cli.regrading import store_regrade as store_regrade
from xrouter_sim.cli.report import evaluate, report
from xrouter_sim.cli.serve import keys_group, serve
from xrouter_sim.cli.simulate import simulate, trace_group
from xrouter_sim.cli.store import store_group
from xrouter_sim.cli.store_code import store_run_code as store_run_code
from xrouter_sim.cli.store_merge import store_merge as store_merge
from xrouter_sim.cli.store_sql import store_sql as store_sql
from xrouter_sim.cli.store_views import store_verify as store_verify  # coverage, compare, verify, upgrade
from xrouter_sim.cli.train import train


class LabGroup(click.Group):
    """A group whose commands end in one clear line when the user can mend what went wrong."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\ninterrupted: what was committed is kept", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            raise  # `… | head` has read enough: click ends quietly
        except OSError as error:
            where = error.filename or "the disk"
            raise click.ClickException(
                f"cannot use {where}: {error.strerror or error}; check the path, the rights and the free space"
            ) from error


@click.group(cls=LabGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xrouter-sim")
def main() -> None:
    """A simulation-first offline lab for LLM routers.

    Harvest answers of many models once, train routers against their replay for nothing, and compare them honestly.

    \b
    The way through:
      xrouter-sim harvest experiments/harvest/demo.toml --db data/responses.duckdb
      xrouter-sim train rl --db data/responses.duckdb --out runs/demo
      xrouter-sim report runs/demo --out report.html
    """


for command in (
    *(harvest, import_group, store_group, bounds, train, simulate),
    *(trace_group, evaluate, compare, report, serve, keys_group, bench_group),
):
    main.add_command(command)
store_group.add_command(embed_store)
