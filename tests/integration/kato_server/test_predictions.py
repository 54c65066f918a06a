"""Predictions: the worked example of the protocol, every field, and what the configuration changes."""

from __future__ import annotations

import math

import pytest

from tests.support.kato_server import Wire, events, new_node

CAT_SAT = "9cf67bb7d0f5b3d39f93b6d34d0b9f17a4ccc361"


@pytest.fixture
def cats(wire: Wire) -> str:
    """A node that learned the-cat-sat twice and the-cat-ran once."""
    node = new_node()
    session = wire.session(node, process_predictions=False)
    for last in ("sat", "sat", "ran"):
        wire.learn_tokens(session, "the", "cat", last)
    return node


def test_two_observations_predict_what_followed_them(wire: Wire, cats: str) -> None:
    session = wire.session(cats)
    wire.observe(session, "the")
    wire.observe(session, "cat")
    answer = wire.get(session, "predictions")
    sat, ran = sorted(answer.pop("predictions"), key=lambda each: -each["frequency"])
    first, second = answer.pop("future_potentials")
    assert answer == {"session_id": session, "processor_id": None, "count": 2, "time": None, "unique_id": None}
    assert first == {
        "future": [["sat"]],
        "aggregate_potential": pytest.approx(2 / 3),
        "supporting_patterns": 1,
        "total_weighted_frequency": pytest.approx(1.6),
    }
    assert (second["future"], second["aggregate_potential"]) == ([["ran"]], pytest.approx(1 / 3))
    assert second["total_weighted_frequency"] == pytest.approx(0.8)
    assert [each["potential"] for each in (sat, ran)] == [pytest.approx(0.64)] * 2
    assert [each["pattern_probability"] for each in (sat, ran)] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]


def test_a_prediction_has_every_field_of_the_protocol(wire: Wire, cats: str) -> None:
    session = wire.session(cats, max_predictions=1)
    wire.sequence(session, events("the", "cat"))
    [prediction] = wire.get(session, "predictions")["predictions"]
    statistics = {
        key: prediction.pop(key)
        for key in ("normalized_entropy", "global_normalized_entropy", "itfdf_similarity", "confluence")
    }
    assert prediction == {
        "type": "prototypical",
        "name": CAT_SAT,
        "frequency": 2,
        "emotives": {},
        "matches": ["the", "cat"],
        "past": [],
        "present": [["the"], ["cat"]],
        "future": [["sat"]],
        "sequence": [["the"], ["cat"], ["sat"]],
        "missing": [[], []],
        "extras": [[], []],
        "evidence": pytest.approx(2 / 3),
        "confidence": 1.0,
        "similarity": 0.8,
        "fragmentation": 0,
        "snr": 1.0,
        "entropy": 0.0,
        "pattern_probability": pytest.approx(2 / 3),
        "weighted_strength": pytest.approx(0.8 * 2 / 3),
        "predictive_information": pytest.approx(0.8),
        "potential": pytest.approx(0.64),
    }
    # Learned 3 times, 9 memberships: the 3, cat 3, sat 2, ran 1; so p(the) = p(cat) = 1/3, four symbols in all.
    weight_sat = math.log(4 / 3) + 1
    assert statistics == {
        "normalized_entropy": pytest.approx(math.log(2) / math.log(4)),
        "global_normalized_entropy": pytest.approx(2 * (1 / 3) * math.log(3) / math.log(4)),
        "itfdf_similarity": pytest.approx(2 / (math.sqrt(2) * math.sqrt(2 + weight_sat**2))),
        "confluence": pytest.approx(2 / 3 * (1 - 1 / 9)),
    }


def test_past_missing_extras_and_blocks_are_told_apart(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    chunks = [["p"], ["a", "m"], ["n"], ["b"], ["f"]]
    wire.sequence(session, [{"strings": each} for each in chunks], learn_at_end=True)
    wire.sequence(session, [{"strings": each} for each in (["a", "x"], ["b"])])
    [prediction] = wire.get(session, "predictions")["predictions"]
    assert prediction["past"] == [["p"]]
    assert prediction["present"] == [["a", "m"], ["n"], ["b"]]
    assert prediction["future"] == [["f"]]
    assert prediction["missing"] == [["m"], ["n"], []]
    assert prediction["extras"] == [["x"], []]
    assert prediction["matches"] == ["a", "b"]
    assert prediction["fragmentation"] == 1
    assert prediction["evidence"] == pytest.approx(2 / 6)
    assert prediction["confidence"] == pytest.approx(2 / 4)
    assert prediction["similarity"] == pytest.approx(4 / 9)
    assert prediction["snr"] == pytest.approx(3 / 5)


def test_without_a_future_there_is_no_potential(wire: Wire, cats: str) -> None:
    session = wire.session(cats, recall_threshold=0.9)
    wire.sequence(session, events("the", "cat", "sat"))
    answer = wire.get(session, "predictions")
    [prediction] = answer["predictions"]
    assert (prediction["similarity"], prediction["potential"], answer["future_potentials"]) == (1.0, 0.0, [])


def test_patterns_with_the_same_future_support_each_other(wire: Wire) -> None:
    node = new_node()
    session = wire.session(node)
    wire.learn_tokens(session, "a", "b", "z")
    wire.learn_tokens(session, "x", "a", "b", "z")
    wire.sequence(session, events("a", "b"))
    [future] = wire.get(session, "predictions")["future_potentials"]
    assert (future["future"], future["supporting_patterns"]) == ([["z"]], 2)
    assert future["aggregate_potential"] == 1.0
    assert future["total_weighted_frequency"] == pytest.approx(4 / 5 + 4 / 6)


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, 2), (0.8, 2), (0.81, 0), (1, 0)])
def test_the_recall_threshold_is_the_least_similarity(wire: Wire, cats: str, threshold: float, expected: int) -> None:
    session = wire.session(cats, recall_threshold=threshold)
    wire.sequence(session, events("the", "cat"))
    assert wire.get(session, "predictions")["count"] == expected


def test_predictions_come_best_first_and_are_cut(wire: Wire, cats: str) -> None:
    session = wire.session(cats)
    wire.sequence(session, events("cat", "sat"))
    everything = wire.get(session, "predictions")["predictions"]
    potentials = [each["potential"] for each in everything]
    assert potentials == sorted(potentials, reverse=True)
    wire.post(session, "config", {"max_predictions": 1})
    wire.post(session, "clear-stm")
    wire.sequence(session, events("cat", "sat"))
    assert wire.get(session, "predictions")["predictions"] == everything[:1]


def test_one_symbol_and_predictions_turned_off_predict_nothing(wire: Wire, cats: str) -> None:
    alone = wire.session(cats)
    wire.observe(alone, "the")
    off = wire.session(cats, process_predictions=False)
    wire.sequence(off, events("the", "cat"))
    assert [wire.get(session, "predictions")["count"] for session in (alone, off)] == [0, 0]


def test_turning_predictions_off_leaves_none_behind(wire: Wire, cats: str) -> None:
    session = wire.session(cats)
    wire.sequence(session, events("the", "cat"))
    wire.post(session, "config", {"process_predictions": False})
    wire.observe(session, "sat")
    assert wire.get(session, "predictions")["count"] == 0


def test_clearing_the_stm_clears_predictions_and_futures(wire: Wire, cats: str) -> None:
    session = wire.session(cats)
    wire.sequence(session, events("the", "cat"))
    wire.post(session, "clear-stm")
    answer = wire.get(session, "predictions")
    assert (answer["predictions"], answer["future_potentials"]) == ([], [])


def test_what_an_observation_makes_learn_does_not_predict_itself(wire: Wire) -> None:
    session = wire.session(max_pattern_length=3)
    assert wire.sequence(session, events("a", "b", "c"))["auto_learned_patterns"]
    assert wire.get(session, "predictions")["count"] == 0
    wire.sequence(session, events("a", "b"))
    assert wire.get(session, "predictions")["count"] == 1


def test_what_a_call_learned_before_its_last_observation_predicts(wire: Wire) -> None:
    session = wire.session(max_pattern_length=3)
    wire.sequence(session, events("a", "b", "c", "a", "b"))
    [prediction] = wire.get(session, "predictions")["predictions"]
    assert (prediction["frequency"], prediction["future"]) == (1, [["c"]])


def test_predictions_know_what_was_learned_a_moment_ago_and_forget_what_was_wiped(wire: Wire, cats: str) -> None:
    session = wire.session(cats)
    for count in (3, 4):
        wire.learn_tokens(session, "the", "cat", "sat")
        wire.sequence(session, events("the", "cat"))
        best = max(wire.get(session, "predictions")["predictions"], key=lambda each: each["frequency"])
        assert best["frequency"] == count
        wire.post(session, "clear-stm")
    wire.post(session, "clear-all")
    wire.sequence(session, events("the", "cat"))
    assert wire.get(session, "predictions")["count"] == 0


def test_emotives_of_a_prediction_are_the_means_of_its_pattern(wire: Wire) -> None:
    session = wire.session()
    for joy in (1.0, 0.5):
        wire.observe(session, "a", emotives={"joy": joy})
        wire.observe(session, "b")
        wire.post(session, "learn")
    wire.sequence(session, events("a", "b"))
    [prediction] = wire.get(session, "predictions")["predictions"]
    assert prediction["emotives"] == {"joy": 0.75}
