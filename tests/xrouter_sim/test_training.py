"""The RL router learns, is reproducible, and goes on after a stop as if there had been none."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner

from responses_db import LabError
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.bench.unseen import restricted
from xrouter_sim.cli import main
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.rollout import play
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.evaluation.decisions import SCHEMA
from xrouter_sim.replay import Replay, cost_unit
from xrouter_sim.routers.fixed import Random
from xrouter_sim.routers.network import PENALTIES
from xrouter_sim.routers.odds import smoothed_grades
from xrouter_sim.routers.prior import is_better
from xrouter_sim.routers.rl import RLRouter
from xrouter_sim.training.config import Config, penalties
from xrouter_sim.training.lattice import Lattice, draw_lattice, exact_reward
from xrouter_sim.training.rl import PLANS, SINGLE, TRAINED, Trainer, parts_of

QUICK = Config(folds=2, updates=6, lattice_share=0.67, lattice_steps=6, groups=32, validate_every=3)


def trainer(config: Config = QUICK, replay: Replay | None = None) -> Trainer:
    replay = replay or tiny_replay(300)
    train = replay.indices("train")
    unit = cost_unit(replay, train)
    router = RLRouter()
    router.fit(replay, train, unit, config.seed)
    return Trainer(router, replay, train, unit, config)


def trained(config: Config = QUICK, batch_size: int = 4096) -> Trainer:
    made = trainer(config)
    made.run(batch_size, lambda _: False)
    return made


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_weights_in_any_batch_size():
    first, second = trained(), trained(batch_size=256)
    for one, other in zip(first.members, second.members, strict=True):
        assert same(one.average, other.average)
    assert same(first.best, second.best)


def test_another_seed_gives_other_weights():
    first, second = trained(), trained(Config(**vars(QUICK) | {"seed": 1}))
    assert not same(first.members[0].average, second.members[0].average)


def test_training_that_shows_no_gain_leaves_the_rule_as_it_was():
    made = trainer()
    before, rule = made.chosen, made.best
    made.best_reward = 1.0  # nothing earns more
    made.run(4096, lambda _: False)
    assert (made.best_update, made.chosen) == (0, before)
    assert same(made.best, rule)


def test_the_plans_must_earn_more_than_single_calls():
    made = trainer()
    assert made.chosen in (SINGLE, PLANS)
    assert (made.best_reward > made.rule_reward.mean()) == (made.chosen == PLANS)
    assert made.best["lookahead"] == float(made.chosen == PLANS)


def test_near_a_penalty_that_is_not_trusted_the_network_does_what_single_calls_would():
    made = trainer()
    view = drawn(made).view
    with torch.inference_mode():
        state = made.router.encoder(view)
        single = made.router.network(state).logits.argmax(dim=2)
        shuffled(made)
        made.router.network.lookahead.fill_(1.0)
        trusting = made.router.network(state).logits.argmax(dim=2)
        made.router.network.trusted[PENALTIES.index(0.0)] = 0.0
        free_alone = made.router.network(state).logits.argmax(dim=2)
        made.router.network.trusted.fill_(0.0)
        nowhere = made.router.network(state).logits.argmax(dim=2)
    free = view.penalty == 0
    assert not torch.equal(trusting, single)
    assert torch.equal(free_alone, torch.where(free[:, None], single, trusting))
    assert torch.equal(nowhere, single)


def test_a_network_is_trusted_where_it_earns_more_and_in_a_hole_between():
    made = trainer()
    made.best_reward, rule = 0.0, made.rule_reward.copy()
    made.rule_reward = np.full_like(rule, 2.0)  # nobody earns that
    made.rule_reward[[2, 4]] = -1.0
    made.rule_reward[3] = rule[3] + 0.1
    made.run(4096, lambda _: False)
    assert made.best["trusted"].nonzero().flatten().tolist() == [2, 3, 4]


def test_what_is_kept_is_the_mean_of_the_networks():
    made = trainer()
    made.best_reward, made.rule_reward = 0.0, made.rule_reward - 1.0  # anything earns more
    made.run(4096, lambda _: False)
    assert made.chosen == TRAINED
    name = "head.weight"
    parts = [member.average[name] for member in made.members]
    if made.best_update == made.update:
        assert torch.allclose(made.best[name], sum(parts) / len(parts), atol=1e-6)
    assert not torch.equal(parts[0], parts[1])


def test_a_gain_counts_when_it_is_more_than_luck_and_harms_no_penalty():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (5, 400))
    assert is_better(noise + 0.05)
    assert not is_better(np.zeros((5, 400)))
    harmful = noise + 0.05
    harmful[2] -= 0.1
    assert not is_better(harmful)


def test_training_beats_chance_on_test_queries():
    made = trained()
    test = made.replay.indices("test")
    penalty = np.full(len(test), 0.5)
    made.router.network.load_state_dict(made.members[0].average)
    learned = play(made.router.act, made.calm, test, test, penalty)
    chance = Random()
    chance.fit(made.replay, made.replay.indices("train"), made.calm.cost_unit, 0)
    assert learned.reward.mean() > play(chance.act, made.calm, test, test, penalty).reward.mean() + 0.05


def drawn(made: Trainer, queries: int = 24) -> Lattice:
    rng = np.random.default_rng(0)
    chosen = made.members[0].train_queries[:queries]
    penalty = penalties(0, np.arange(queries))
    return draw_lattice(made.router.encoder, made.grades, chosen, penalty, rng)


def shuffled(made: Trainer) -> None:
    """Corrections that are not zero, so that there is something to see."""
    torch.manual_seed(0)
    torch.nn.init.normal_(made.router.network.head.weight, std=0.5)


def test_arms_are_interchangeable_to_the_network():
    made = trainer()
    shuffled(made)
    view, order = drawn(made).view, torch.tensor([2, 0, 1])
    by_arm = {
        "arm": 1,
        "price": 1,
        "answer": 1,
        "option": 1,
        "evidence": 1,
        "dearer": 1,
        "called": 2,
        "ok": 2,
        "callable": 2,
    }
    turned = replace(view, **{name: getattr(view, name).index_select(axis, order) for name, axis in by_arm.items()})
    with torch.inference_mode():
        plain, other = (made.router.network(made.router.encoder(v)) for v in (view, turned))
    assert torch.allclose(plain.correct[..., order], other.correct, atol=1e-4)
    assert torch.allclose(plain.logits[..., :3][..., order], other.logits[..., :3], atol=1e-2)


def test_what_was_not_called_is_not_seen():
    made = trainer()
    shuffled(made)
    view = drawn(made).view
    turned = replace(view, answer=view.answer.flip(0), option=view.option.flip(0), evidence=view.evidence.flip(0))
    with torch.inference_mode():
        seen, other = (made.router.network(made.router.encoder(v)).logits for v in (view, turned))
    assert torch.equal(seen[:, 0], other[:, 0]), "before the first call nothing is known of answers"
    only_first = 1
    changed = replace(view, answer=torch.where(torch.arange(3) == 0, view.answer, 0))
    with torch.inference_mode():
        after = made.router.network(made.router.encoder(changed)).logits
    assert torch.equal(seen[:, only_first], after[:, only_first]), "after a call of one arm the others' answers are not"
    assert not torch.equal(seen[:, -1], after[:, -1])


def test_the_exact_reward_is_that_of_every_course_weighed_by_its_chance():
    made = trainer()
    shuffled(made)
    lattice = drawn(made)
    with torch.inference_mode():
        logits = made.router.network(made.router.encoder(lattice.view)).logits
    chance = torch.softmax(logits, dim=2)
    m = lattice.grade.shape[1]

    def follow(row: int, called: int) -> float:
        earned = 0.0
        for i in range(m):
            if lattice.view.callable[row, called, i]:
                earned += float(chance[row, called, i]) * follow(row, called | 1 << i)
            if lattice.view.ok[row, called, i]:
                left = max(1.0 - float(lattice.penalty[row] * lattice.spent[row, called]), 0.0)
                earned += float(chance[row, called, m + i]) * left * float(lattice.grade[row, i])
        return earned

    expected = [follow(row, 0) for row in range(len(lattice.grade))]
    assert exact_reward(logits, lattice).tolist() == pytest.approx(expected, abs=1e-5)


def test_smoothed_grades_keep_the_mean_and_lose_variance():
    replay = tiny_replay(600, samples=1)
    train = replay.indices("train")
    smoothed, grades = smoothed_grades(replay, train), replay.mean_score[train]
    assert smoothed.mean(axis=0) == pytest.approx(grades.mean(axis=0), abs=0.03)
    assert smoothed.var() < 0.9 * grades.var()
    assert np.corrcoef(smoothed.ravel(), grades.ravel())[0, 1] > 0.5


def test_each_training_query_is_validated_once_by_a_network_that_has_not_seen_it():
    made = trainer()
    train = made.replay.indices("train")
    for member in made.members:
        assert not set(member.train_queries) & set(member.held_out)
        assert set(member.train_queries) | set(member.held_out) == set(train)
    assert sorted(np.concatenate([member.held_out for member in made.members])) == sorted(train)


def test_a_lone_query_is_trained_and_validated_on():
    parts = parts_of(np.array([7]), folds=4, seed=0)
    assert [(list(known), list(held)) for known, held in parts] == [([7], [7])]


def test_penalties_cover_the_frontier():
    drawn = penalties(0, np.arange(20_000))
    assert (drawn == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert ((drawn > 0) & (drawn < 1)).mean() == pytest.approx(0.45, abs=0.02)
    assert drawn.max() <= 80


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_train_writes_a_run_that_two_batch_sizes_agree_on(tiny_store, tmp_path):
    for size in (64, 2000):
        run("train", "rl", "--db", tiny_store, "--out", tmp_path / str(size), "--batch-size", size, "--updates", 2)
    first, second = (pl.read_parquet(tmp_path / size / "decisions.parquet") for size in ("64", "2000"))
    assert first.equals(second)
    assert first.schema == SCHEMA
    assert {"rl", "oracle", "knn", "table", "always:giant"} <= set(first["router"])
    manifest = json.loads((tmp_path / "64" / "manifest.json").read_text())
    assert manifest["store"]["provenance"] == {"imported": 240}
    assert manifest["router"] == "rl"
    assert set(pl.read_parquet(tmp_path / "64" / "robustness.parquet")["profile"]) >= {"calm", "prices", "failures"}


def test_train_takes_any_routers_name(tiny_store, tmp_path):
    run("train", "always:giant", "--db", tiny_store, "--out", tmp_path)
    decisions = pl.read_parquet(tmp_path / "decisions.parquet")
    assert decisions["router"][0] == "always:giant"
    assert decisions.filter(pl.col("router") == "always:giant")["answered_by"].unique().to_list() == ["giant"]


def test_an_unknown_router_is_one_clear_line(tiny_store, tmp_path):
    result = CliRunner().invoke(main, ["train", "magic", "--db", str(tiny_store), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "no router 'magic': choose one of rl, random" in result.output


def test_a_stopped_training_is_not_lost_and_resumes_to_the_same_weights(tiny_store, tmp_path):
    command = [
        sys.executable,
        "-m",
        "xrouter_sim",
        "train",
        "rl",
        "--db",
        str(tiny_store),
        "--updates",
        "3",
        "--quiet",
    ]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "a")], stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "a" / "checkpoint.safetensors"
    for _ in range(600):
        if checkpoint.exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "--resume" in err
    again = subprocess.run([*command, "--out", str(tmp_path / "a")], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "holds a training stopped at update" in again.stderr
    subprocess.run([*command, "--out", str(tmp_path / "a"), "--resume"], check=True)
    subprocess.run([*command, "--out", str(tmp_path / "b")], check=True)
    resumed, straight = (pl.read_parquet(tmp_path / name / "decisions.parquet") for name in "ab")
    assert resumed.equals(straight)


@pytest.mark.parametrize("router", ["rl", "table"])
def test_a_full_disk_is_one_clear_line_and_leaves_no_half_run(tiny_store, tmp_path, router):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); from xrouter_sim.cli import main; main()"
    command = ["train", router, "--db", str(tiny_store), "--out", str(tmp_path / "run"), "--updates", "1", "--quiet"]
    done = subprocess.run([sys.executable, "-c", limit, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "free some disk space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob("*.new"))
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_a_call_that_comes_in_any_case_is_made_at_once():
    made = trainer()
    router, train = made.router, made.replay.indices("train")
    router.network.lookahead.fill_(1.0)
    query, key = np.tile(train, 2), np.arange(2 * len(train))
    penalty = np.repeat([0.0, 0.3], len(train))
    turns = {}
    for ahead in (False, True):
        router.calls_ahead = ahead
        turns[ahead] = play(router.act, made.calm, query, key, penalty)
    assert turns[True].turn.sum() <= turns[False].turn.sum()
    assert turns[True].reward.mean() == pytest.approx(turns[False].reward.mean(), abs=0.02)


def test_bills_tell_what_further_calls_will_cost():
    config = Config(**vars(QUICK) | {"folds": 1, "updates": 1, "lattice_share": 1.0, "lattice_steps": 60})
    length = np.exp(np.random.default_rng(0).normal(0, 0.7, 300))[:, None, None]
    plain = tiny_replay(300)
    made = trainer(config, replay=replace(plain, cost_usd=plain.cost_usd * length, memo={}))
    made.run(4096, lambda _: False)
    level, slope = made.members[0].network.dearer.tolist()
    assert slope > 0.02, "where one call was dearer than expected, so will others be"
    assert abs(level) < 0.1


def test_the_router_meets_a_new_arm_with_the_same_network():
    replay = tiny_replay(300)
    train, known = replay.indices("train"), np.array([True, True, False])
    unit = cost_unit(replay, train)
    before = RLRouter()
    before.fit(restricted(replay, known), train, unit, 0)
    worth = []
    for calibration in (train[:0], train[:64]):
        met = before.extended(replay, train, calibration, unit, 0)
        assert same(met.weights(), before.weights())
        changed = replace(replay, score=replay.score.copy(), memo={})
        changed.score[np.setdiff1d(train, calibration), 2] = 0.0
        again = before.extended(changed, train, calibration, unit, 0)
        assert np.array_equal(met.predicted_score, again.predicted_score), "other answers of it are not read"
        worth.append(met.predicted_score[:, 2].mean() - replay.mean_score[:, 2].mean())
    assert abs(worth[1]) < abs(worth[0])


@pytest.mark.parametrize("kind", ["agreement", "options", "response", "bills"])
def test_evidence_that_is_left_out_is_not_read(kind):
    replay = tiny_replay(300)
    train, unit = replay.indices("train"), cost_unit(replay, replay.indices("train"))
    turned = {
        "agreement": replace(replay, answer=replay.answer[::-1].copy(), memo={}),
        "response": replace(replay, evidence=replay.evidence[::-1].copy(), memo={}),
    }
    router = RLRouter.named(f"rl:without-{kind}")
    router.fit(replay, train, unit, 0)
    torch.nn.init.normal_(router.network.head.weight, std=0.5)
    router.network.dearer.data[1] = 1.0
    calm = Simulator(replay, Profile(), 0, unit)
    query, penalty = np.tile(train, 2), np.repeat([0.0, 0.3], len(train))
    plain = play(router.act, calm, query, np.arange(len(query)), penalty)
    if kind in turned:
        router.encoder.seen = turned[kind]
    elif kind == "options":
        router.encoder.options = router.encoder.options[::-1].copy()
    else:
        router.network.dearer.data[1] = 0.0
    again = play(router.act, calm, query, np.arange(len(query)), penalty)
    assert np.array_equal(plain.reward, again.reward)
    assert (plain.n_slots > 1).any(), "it must have had something to read"


def test_unknown_evidence_is_one_clear_line():
    with pytest.raises(LabError, match="no evidence 'magic' in rl:without-magic: it has text, domain"):
        RLRouter.named("rl:without-magic")


def test_a_device_that_is_not_there_is_one_clear_line(tiny_store, tmp_path):
    command = ["train", "rl", "--db", str(tiny_store), "--out", str(tmp_path), "--device", "abacus"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "no device 'abacus'" in result.output
