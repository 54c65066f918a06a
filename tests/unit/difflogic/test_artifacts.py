"""What a training leaves to people is there, says what is true, and is the same bytes when it is published again."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from shardwise_api.difflogic import Preset
from shardwise_jobs.engines.difflogic.artifacts import animation, graph, pictures
from shardwise_jobs.engines.difflogic.artifacts import publish as artifacts
from shardwise_jobs.engines.difflogic.artifacts.netlist import parse
from shardwise_jobs.engines.difflogic.artifacts.publish import Published
from shardwise_jobs.engines.difflogic.cli import difflogic
from shardwise_jobs.engines.difflogic.experiments import data
from shardwise_jobs.engines.difflogic.experiments.presets import PRESETS
from shardwise_jobs.engines.difflogic.model.gates import F64
from shardwise_jobs.engines.difflogic.npz import npz_bytes, read_arrays
from tests.support.circuits import LIFE, life_functions, published

FILES = {"parameters.npz", "circuit.txt", "circuit.svg", "circuit.png", "loss.png", "automaton.gif"}
RED = animation._PALETTE[animation._WRONG], animation._PALETTE[animation._MISSING]
# As where the extra `report` was not installed.
BARE = """
import sys
sys.modules["matplotlib"] = None
import pathlib
import numpy
from tests.support.circuits import LIFE, life_functions, published
print(*published(pathlib.Path(sys.argv[1]), LIFE, life_functions(), history=numpy.zeros((0, 4))).warnings)
"""


def history(rows: int) -> F64:
    steps = np.arange(1, rows + 1)
    return np.stack([steps, 100 / steps, np.maximum(90 - steps, 0), np.minimum(steps / 90, 1)], axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("life")


@pytest.fixture(scope="module")
def life(folder: Path) -> Published:
    return published(folder, LIFE, life_functions(), history=history(120))


def frames(content: bytes) -> list[Image.Image]:
    with Image.open(io.BytesIO(content)) as film:
        found = []
        for number in range(getattr(film, "n_frames", 1)):
            film.seek(number)
            found.append(film.convert("RGB"))
        return found


def reds(frame: Image.Image) -> int:
    pixels = np.asarray(frame)
    return sum(int((pixels == colour).all(axis=-1).sum()) for colour in RED)


def test_all_of_it_is_written_and_told(life: Published, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    assert set(life.uris) == {"parameters", "circuit", "graph", "graphPicture", "losses", "animation"}
    assert {uri.rpartition("/")[2] for uri in life.uris.values()} == FILES
    assert life.warnings == []
    assert [trial.name for trial in life.trials] == ["trained", "large"]
    assert life.figures["gates"] == 2543
    assert life.figures["activeGates"] == 283
    assert (life.figures["trainedWrong"], life.figures["largeWrong"]) == (0, 0)


def test_published_again_it_is_the_same_bytes(life: Published, folder: Path, tmp_path: Path) -> None:
    assert published(tmp_path, LIFE, life_functions(), history=history(120)).figures == life.figures
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_text_says_what_is_left_and_can_be_computed(life: Published, folder: Path) -> None:
    text = (folder / "circuit.txt").read_text()
    netlist = parse(text)
    assert netlist.gates == life.figures["prunedGates"]
    assert "283 of 2,543 gates are active" in text
    assert "all 512 boards right" in text
    patches = data.boards().reshape(512, 1, 9).transpose(2, 1, 0).astype(np.bool_)
    assert np.array_equal(netlist.next_states(patches)[0], data.life(data.boards())[:, 1, 1])


def test_the_parameters_are_what_the_step_command_reads(life: Published, folder: Path, tmp_path: Path) -> None:
    arrays = read_arrays(folder / "parameters.npz")
    x = data.boards()[..., None]
    given = npz_bytes({**arrays, "x": x, "y": data.life(x[..., 0])[..., None]})
    (tmp_path / "in.npz").write_bytes(given)
    done = CliRunner().invoke(difflogic, ["step", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")])
    assert (done.exit_code, done.output) == (0, "")
    assert read_arrays(tmp_path / "out.npz")["loss_hard"] == 0


def test_pictures_are_pictures(life: Published, folder: Path) -> None:
    for name in ("circuit.png", "loss.png"):
        with Image.open(folder / name) as picture:
            picture.verify()
            assert min(picture.size) > 400
    assert ElementTree.fromstring((folder / "circuit.svg").read_bytes()).tag.endswith("svg")
    assert (folder / "automaton.gif").stat().st_size < 1_000_000


def test_the_film_of_a_right_circuit_shows_no_red_and_that_of_a_wrong_one_does(life: Published, folder: Path) -> None:
    shown = frames((folder / "automaton.gif").read_bytes())
    assert len(shown) == animation.LIFE_FRAMES
    assert sum(map(reds, shown)) == 0
    wrong = life_functions()
    wrong[-1] = 0
    wired = LIFE.model.wired(seed=LIFE.seed)
    shown = frames(animation.film(experiment=LIFE, automaton=wired, functions=wrong))
    assert reds(shown[0]) == 0
    assert reds(shown[1]) > 1000


@pytest.mark.parametrize("preset", [Preset.CHECKERBOARD_ASYNC, Preset.LIZARD, Preset.COLOUR_G])
def test_every_kind_of_experiment_is_shown(preset: Preset, tmp_path: Path) -> None:
    experiment = PRESETS[preset]
    gates = experiment.model.wired(seed=experiment.seed).gates
    result = published(tmp_path, experiment, np.random.default_rng(1).choice([1, 3, 5, 7], gates), history=history(1))
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert result.warnings == []
    assert len(frames((tmp_path / "automaton.gif").read_bytes())) <= animation.FRAMES + 1
    assert (tmp_path / "automaton.gif").stat().st_size < 1_000_000
    assert parse((tmp_path / "circuit.txt").read_text()).gates == result.figures["prunedGates"]


def test_a_training_without_a_step_has_a_picture_too() -> None:
    assert pictures.draw(history(0), title="none").startswith(b"\x89PNG")


def test_a_circuit_of_no_gate_has_a_picture_too() -> None:
    constant = parse("channels 1\nperceive\nupdate\nnew.c0 = 1")
    assert graph.draw(constant, title="none", kind="png").startswith(b"\x89PNG")
    wire = parse("channels 1\nperceive\nupdate\nnew.c0 = NOT ne.c0")
    assert graph.draw(wire, title="a wire", kind="svg") != graph.draw(constant, title="a wire", kind="svg")


def test_too_many_gates_are_not_drawn_but_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MOST_DRAWN", 70)
    result = published(tmp_path, LIFE, life_functions(), history=history(120))
    assert result.warnings == ["no picture of the circuit: 71 gates are too many to be drawn (circuit.txt has them)"]
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"circuit.svg", "circuit.png"}


def test_without_matplotlib_the_rest_is_published_with_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE, str(tmp_path)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (
        0,
        "no pictures: matplotlib is missing (pip install 'shardwise[report]')\n",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"parameters.npz", "circuit.txt"}
