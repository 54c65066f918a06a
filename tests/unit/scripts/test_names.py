"""Names made of file names are the original's, and no two ids become one name in Kubernetes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_jobs.engines.scripts.model.names import id_of, kubernetes_name, output_of, title_of


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


def test_an_ordinary_id_keeps_its_words_in_kubernetes() -> None:
    assert kubernetes_name("train_brain_mri") == "train-brain-mri"


def test_an_id_of_63_characters_is_kept_and_a_longer_one_is_cut_and_told_apart() -> None:
    assert kubernetes_name("a" * 63) == "a" * 63
    longer, other = kubernetes_name("a" * 64), kubernetes_name("a" * 65)
    assert len(longer) == len(other) == 63
    assert longer != other


@pytest.mark.parametrize("job_id", ["a-b", "ALS", "_a", "a_", "é", "a.b", "日本"])
def test_an_id_that_says_more_than_a_label_can_ends_in_digits(job_id: str) -> None:
    assert re.search(r"-[0-9a-f]{10}$", kubernetes_name(job_id))


@given(st.lists(st.text(min_size=1, max_size=90), min_size=2, max_size=6, unique=True))
def test_every_name_is_a_label_and_no_two_ids_share_one(ids: list[str]) -> None:
    names = [kubernetes_name(job_id) for job_id in ids]
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names)
    assert len(set(names)) == len(ids)
