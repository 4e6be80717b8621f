"""Profiles: found by name, laid over each other, refused when they make no sense."""

import pytest

from responses_db import LabError
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.engine.profile import Failures, Pools, Prices, Profile, built_in_names
from xrouter_sim.engine.world import compile_world


@pytest.mark.parametrize("name", built_in_names())
def test_a_built_in_profile_loads_compiles_and_survives_a_round_trip(name):
    profile = Profile.load(name)
    assert profile.name == name
    assert Profile.from_tables(profile.name, profile.as_dict()) == profile
    compile_world(profile, tiny_replay(queries=6), 0)


def test_the_named_ones_are_there():
    assert {"calm", "prices", "failures", "realistic", "stormy", "training"} <= set(built_in_names())
    assert Profile.load("calm") == Profile()


def test_profiles_are_laid_over_each_other():
    both = Profile.load("prices+failures")
    assert both.name == "prices+failures"
    assert (both.prices, both.failures) == (Profile.load("prices").prices, Profile.load("failures").failures)


def test_a_file_extends_others(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('extends = ["failures"]\n[failures]\ntimeout = 0.2\n[pools]\nheld_out = ["gpt-5"]\n')
    mine = Profile.load(str(file))
    assert mine.name == "mine"
    assert mine.failures.timeout == 0.2
    assert mine.failures.refused == Profile.load("failures").failures.refused
    assert mine.pools.held_out == ("gpt-5",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("wind = 3", "unknown keys: wind"),
        ("[failures]\nwind = 3", r"unknown keys of \[failures\]: wind"),
        ("failures = 3", "`failures` must be a table"),
        ("[failures]\ntimeout = 'often'", "failures.timeout must be of the kind of 0.0, not 'often'"),
        ("[pools]\nleast = 1.5", "pools.least must be of the kind of 2"),
        ("[failures]\ntimeout = 0.9\nrefused = 0.2", "sum to at most 1"),
        ("[pools]\nleast = 3\nmost = 2", "pools.most must be 0 or at least pools.least"),
        ("[latency]\ntail_exponent = 1", "tail_exponent must be above 1"),
        ("[client]\nattempts = 0", r"client.attempts must lie in 1 … 32"),
        ('extends = ["windy"]', "no profile 'windy'"),
        ("= 3", "is not TOML"),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path, text, complaint):
    file = tmp_path / "odd.toml"
    file.write_text(text)
    with pytest.raises(LabError, match=complaint) as caught:
        Profile.load(str(file))
    assert "\n" not in str(caught.value)


def test_a_profile_that_extends_itself_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text('extends = ["b.toml"]')
    (tmp_path / "b.toml").write_text('extends = ["a.toml"]')
    with pytest.raises(LabError, match="extends itself"):
        Profile.load("a.toml")


def test_a_world_refuses_models_that_are_not_there():
    with pytest.raises(LabError, match="holds out gpt-9, not in the store"):
        compile_world(Profile(pools=Pools(held_out=("gpt-9",))), tiny_replay(queries=4), 0)
    with pytest.raises(LabError, match="holds out every model"):
        compile_world(Profile(pools=Pools(held_out=("a", "b", "c"))), tiny_replay(queries=4), 0)


def test_providers_come_from_the_profile_then_the_store_then_the_model():
    replay = tiny_replay(queries=4)
    assert compile_world(Profile(), replay, 0).providers == ["a", "b", "c"]
    replay.store["providers"] = {"a": "one", "b": "one", "c": "two"}
    assert compile_world(Profile(), replay, 0).provider.tolist() == [0, 0, 1]
    named = Profile(failures=Failures(), prices=Prices(), providers={"zoo": ("b*",)})
    assert compile_world(named, replay, 0).providers == ["one", "two", "zoo"]
