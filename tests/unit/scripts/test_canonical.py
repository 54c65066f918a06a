"""The built-in jobs are the original's seven, and people find the same list among the examples."""

from __future__ import annotations

import pytest

from shardwise_jobs.engines.scripts.discovery.config import canonical_jobs, read_config
from shardwise_jobs.engines.scripts.model.job import SuiteJob
from tests.support.helm import REPOSITORY

TABLE = [
    ("als", "ALS (Amyotrophic Lateral Sclerosis)", "als", True, True, {"dataset-choice": "als-progression"}),
    ("alzheimers", "Alzheimer's Disease", "alzheimer", True, False, {}),
    ("parkinsons", "Parkinson's Disease", "parkinsons", True, False, {"data-path": "ParkinsonDatasets"}),
    ("brain_mri", "Brain MRI Classification", "brain_mri", False, False, {}),
    ("cardiovascular", "Cardiovascular Disease Prediction", "cardiovascular", True, False, {}),
    ("diabetes", "Diabetes Prediction", "diabetes", True, False, {}),
    ("specialized_agents", "Specialized Medical Agents", "specialized_agents", True, False, {}),
]


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_each_is_as_in_the_original(row: tuple[str, str, str, bool, bool, dict[str, str]]) -> None:
    job_id, name, output, folds, batch, args = row
    assert {job.id: job for job in canonical_jobs()}[job_id] == SuiteJob(
        id=job_id,
        name=name,
        script=f"src/aimedres/training/train_{job_id}.py",
        output=f"{output}_comprehensive_results",
        args=args,
        optional=False,
        use_output_dir=True,
        supports_epochs=True,
        supports_folds=folds,
        supports_sample=False,
        supports_batch=batch,
        detect_method="config",
    )


def test_they_are_seven_in_the_originals_order() -> None:
    assert [job.id for job in canonical_jobs()] == [row[0] for row in TABLE]


def test_the_example_for_people_is_the_same_list() -> None:
    config = read_config(REPOSITORY / "examples" / "suite-aimedres.yaml")
    assert tuple(entry.job() for entry in config.jobs) == canonical_jobs()
    assert config.warnings == ()
