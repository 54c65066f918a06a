"""A suite's settings: the original's defaults, and plain words for what can't work."""

from __future__ import annotations

from typing import Any

import pytest

from shardwise_jobs.engines.scripts.model.options import SuiteOptions
from shardwise_jobs.engines.scripts.model.validation_errors import InvalidSuite


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("config", None),
        ("epochs", None),
        ("folds", None),
        ("sample", None),
        ("batch", None),
        ("only", []),
        ("exclude", []),
        ("list", False),
        ("dry_run", False),
        ("verbose", False),
        ("parallel", False),
        ("max_workers", 4),
        ("retries", 0),
        ("extra_arg", []),
        ("base_output_dir", "results"),
        ("logs_dir", "logs"),
        ("summary_dir", "summaries"),
        ("allow_partial_success", False),
        ("no_auto_discover", False),
        ("discover_root", []),
        ("include_pattern", []),
        ("exclude_regex", None),
        ("discovery_limit", None),
        ("allow_discovery_overrides", False),
        ("no_default_jobs", False),
        ("mark_discovered_optional", False),
        ("strict_discovery", False),
        ("include_patterns", ["train_*.py"]),
        ("detect", "text"),
        ("retry_delay_seconds", 2.0),
        ("retry_backoff", 1.0),
        ("timeout_seconds", None),
    ],
)
def test_defaults_are_the_originals_under_its_names(name: str, default: object) -> None:
    assert SuiteOptions.of({}).arguments()[name] == default


def test_every_setting_is_among_the_arguments_of_a_summary() -> None:
    ours = {"auto_discover", "default_jobs", "extra_args", "extra_include_patterns", "roots"}
    theirs = {"no_auto_discover", "no_default_jobs", "extra_arg", "include_pattern", "discover_root"}
    assert {*SuiteOptions.of({}).arguments()} == {*SuiteOptions.model_fields} - ours | theirs | {"list", "verbose"}


def test_arguments_say_what_was_asked_for() -> None:
    options = SuiteOptions.of(
        {
            "auto_discover": False,
            "default_jobs": False,
            "extra_args": ["--x"],
            "extra_include_patterns": ["*fit.py"],
            "roots": ["a"],
            "only": ["b"],
            "jobs": [{"name": "A", "script": "a.py", "output": "o", "args": {"x": 1}}],
        }
    )
    said = options.arguments(list=True, verbose=True)
    assert [said[name] for name in ("no_auto_discover", "no_default_jobs", "list", "verbose")] == [True] * 4
    assert (said["extra_arg"], said["include_pattern"]) == (["--x"], ["*fit.py"])
    assert (said["discover_root"], said["only"]) == (["a"], ["b"])
    [job] = said["jobs"]
    assert (job["id"], job["script"], job["args"]) == ("a", "a.py", {"x": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_workers": 0}, "max_workers must be greater than 0"),
        ({"max_workers": -1}, "max_workers must be greater than 0"),
        ({"max_workers": "many"}, "max_workers must be a whole number"),
        ({"max_workers": 1.5}, "max_workers must be a whole number"),
        ({"retries": -1}, "retries must be 0 or greater"),
        ({"retry_delay_seconds": -1}, "retry_delay_seconds must be 0 or greater"),
        ({"retry_delay_seconds": float("inf")}, "retry_delay_seconds must be a finite number"),
        ({"retry_backoff": 0.5}, "retry_backoff must be 1 or greater"),
        ({"timeout_seconds": 0}, "timeout_seconds must be greater than 0"),
        ({"grace_seconds": -1}, "grace_seconds must be 0 or greater"),
        ({"discovery_limit": 0}, "discovery_limit must be greater than 0"),
        ({"epochs": 0}, "epochs must be greater than 0"),
        ({"folds": 0}, "folds must be greater than 0"),
        ({"sample": 0}, "sample must be greater than 0"),
        ({"batch": 0}, "batch must be greater than 0"),
        ({"detect": "guess"}, "detect must be 'text' or 'ast'"),
        ({"dry_run": "perhaps"}, "dry_run must be true or false"),
        ({"only": "als"}, "only must be a list"),
        ({"logs_dir": ""}, "logs_dir must not be empty"),
        ({"interpreter": ""}, "interpreter must not be empty"),
        (
            {"exclude_regex": "(old"},
            "exclude_regex is not a regular expression: missing ), unterminated subpattern at position 0",
        ),
        (
            {"include_patterns": ["src/train_*.py"]},
            "include_patterns match file names, not paths: 'src/train_*.py' can't match; roots choose folders",
        ),
        (
            {"extra_include_patterns": [""]},
            "extra_include_patterns match file names, not paths: '' can't match; roots choose folders",
        ),
        (
            {"include_patterns": []},
            "include_patterns is empty, so nothing could be found: give one, or turn discovery off",
        ),
        ({"max_worker": 3}, "max_worker is not known; did you mean max_workers?"),
        ({"colour": "red"}, "colour is not known"),
        ({"max_workers": 0, "retries": -1}, "max_workers must be greater than 0; retries must be 0 or greater"),
        ({"jobs": [{"name": "A", "output": "o"}]}, "jobs[0].script is missing"),
        ({"jobs": ["als"]}, "jobs[0] must be a map of names to values"),
    ],
)
def test_what_can_not_work_is_said_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSuite) as caught:
        SuiteOptions.of(values)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_no_pattern_is_needed_where_nothing_is_looked_for() -> None:
    assert SuiteOptions.of({"include_patterns": [], "auto_discover": False}).include_patterns == ()


@pytest.mark.parametrize(
    ("parallel", "max_workers", "count", "workers"),
    [(True, 6, 7, 6), (True, 6, 3, 3), (True, 4, 0, 1), (False, 6, 7, 1), (True, 1, 7, 1)],
)
def test_as_many_workers_as_jobs_at_most_and_one_unless_parallel(
    parallel: bool, max_workers: int, count: int, workers: int
) -> None:
    assert SuiteOptions.of({"parallel": parallel, "max_workers": max_workers}).workers(count) == workers


@pytest.mark.parametrize(
    ("delay", "backoff", "expected"),
    [(2, 1, [2, 2, 2]), (2, 2, [2, 4, 8]), (0, 3, [0, 0, 0]), (3000, 2, [3000, 3600, 3600]), (5000, 2, [5000] * 3)],
)
def test_the_delay_is_constant_unless_it_is_told_to_grow(delay: float, backoff: float, expected: list[float]) -> None:
    options = SuiteOptions.of({"retry_delay_seconds": delay, "retry_backoff": backoff})
    assert [options.delay_after(attempt) for attempt in (1, 2, 3)] == expected


def test_a_delay_that_grows_for_ever_stays_a_number() -> None:
    assert SuiteOptions.of({"retry_backoff": 1e300}).delay_after(1000) == 3600
