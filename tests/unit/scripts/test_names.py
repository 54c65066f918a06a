"""Names made of file names are the original's."""

from __future__ import annotations

import pytest

from shardwise_jobs.engines.scripts.model.job import id_of, output_of, title_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train_als", "train_als"),
        ("Train_ALS", "train_als"),
        ("Parkinson's Disease", "parkinsons_disease"),
        ("ALS (Amyotrophic Lateral Sclerosis)", "als_amyotrophic_lateral_sclerosis"),
        ("heart/lung", "heart_lung"),
        ("R&D", "randd"),
        ("with blanks", "with_blanks"),
        ("two-words", "two-words"),
    ],
)
def test_an_id_is_made_as_the_original_makes_it(text: str, expected: str) -> None:
    assert id_of(text) == expected


@pytest.mark.parametrize(
    ("stem", "title", "output"),
    [
        ("train_brain_mri", "Brain Mri", "brain_mri_results"),
        ("train_als", "Als", "als_results"),
        ("my_trainer", "My Trainer", "my_trainer_results"),
        ("pre_train_x", "Pre Train X", "pre_train_x_results"),
        ("train_", "train_", "_results"),
    ],
)
def test_title_and_output_come_from_the_stem_without_its_prefix(stem: str, title: str, output: str) -> None:
    assert title_of(stem) == title
    assert output_of(stem) == output
