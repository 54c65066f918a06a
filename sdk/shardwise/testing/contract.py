"""The promise as tests: an engine that passes them gives the same result, wherever and however it runs.

class TestWordCount(EngineContract):
    engine = WordCount

    def make_spec(self, folder, *, items, broken):
        ...
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest

from shardwise.engine.block_engine import Block
from shardwise.engine.errors import BadConfiguration, BadInput, Interrupted, TooManyFailedItems, WorkError
from shardwise.engine.files import OutputFolder
from shardwise.engine.spec import parse_spec
from shardwise.engine.stores import BlockRecord
from shardwise_api.common import Strategy
from shardwise_api.wire import ExitCode, RunResult

from .trial import AnyEngine, Calls, Commit, Killed, Trial, committing, processing

_MOST_POINTS = 25
"""Of a commit: where it is cut off."""


class EngineContract:
    """Inherit it, name the engine, and say how an input is made."""

    engine: ClassVar[AnyEngine]
    items: ClassVar[int] = 20
    block_size: ClassVar[int] = 3
    has_broken_items: ClassVar[bool] = True
    """Whether `make_spec` can make an input with items that fail."""

    def make_spec(self, folder: Path, *, items: int, broken: int) -> Mapping[str, Any]:
        """Write an input of so many items into an empty folder, `broken` of them such that they fail, and return
        `engine.plugin.spec`; the same arguments make the same input."""
        raise NotImplementedError

    def change_settings(self, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a spec of the same input under which blocks come to something else; None where there is none."""
        return None

    def output(self, folder: Path) -> str:
        """Return the URI of a folder for artefacts."""
        return str(folder / "output")

    # -- what a test has

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp_path = tmp_path
        self._numbers = count()

    def trial(self, *, items: int | None = None, broken: int = 0, **settings: Any) -> Trial:
        """Return a run that has not begun, with an input and an output of its own."""
        folder = self._tmp_path / str(next(self._numbers))
        (folder / "input").mkdir(parents=True)
        spec = self.make_spec(folder / "input", items=self.items if items is None else items, broken=broken)
        return Trial(
            self.engine,
            spec=spec,
            output=self.output(folder),
            folder=folder / "input",
            block_size=self.block_size,
            **settings,
        )

    @pytest.fixture
    def expected(self) -> RunResult:
        """What one worker that nothing befalls comes to."""
        return self.trial().complete(shards=1)

    # -- the same result, however the work is cut

    @pytest.mark.parametrize("strategy", list(Strategy))
    @pytest.mark.parametrize("shards", [2, 4, 30])
    def test_any_number_of_shards_comes_to_the_same(self, shards: int, strategy: Strategy, expected: RunResult) -> None:
        result = self.trial(strategy=strategy).complete(shards=shards)
        assert (result.digest, result.items) == (expected.digest, expected.items)

    def test_every_item_counts_once(self, expected: RunResult) -> None:
        assert expected.items.all == self.items

    def test_it_goes_on_with_another_number_of_shards(self, expected: RunResult) -> None:
        trial = self.trial()
        for shards in (4, 2, 7):
            trial.prepare(shards=shards)
            trial.work(shards - 1, shards=shards)
        assert trial.complete(shards=3).digest == expected.digest

    def test_a_block_comes_to_the_same_whenever_it_is_worked(self) -> None:
        trial = self.trial()
        payloads = []
        for _ in range(2):
            engine = self.engine(
                parse_spec(self.engine.spec_model, trial.spec, at="spec", folder=trial.folder),
                run="contract",
                output=OutputFolder(trial.output),
                at="spec",
            )
            items = list(engine.open_source().read(range(self.block_size)))
            payloads.append(engine.encode(engine.process(Block(0, items))))
        assert payloads[0] == payloads[1], "process is not pure: it makes something else of the same block"

    # -- workers that come to an end

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_it_may_be_killed_around_any_commit(self, when: str, expected: RunResult) -> None:
        trial = self.trial()
        blocks = -(-self.items // self.block_size)
        for _ in range(blocks + 1):
            trial.prepare()

            def killing(_number: int, commit: Commit) -> BlockRecord:
                if when == "after":
                    commit()
                raise Killed

            # Each that is killed after a commit leaves one block more than it found.
            try:
                trial.work(0, shards=1, engine=committing(self.engine, killing))
            except Killed:
                continue
        assert trial.complete(shards=2).digest == expected.digest

    def test_it_may_be_killed_within_a_commit(self, expected: RunResult) -> None:
        calls = Calls()
        trial = self.trial()
        trial.prepare()
        trial.work(0, shards=1, engine=committing(self.engine, lambda number, commit: calls.of(commit)))
        each = max(1, calls.count // (-(-self.items // self.block_size)))
        for point in range(1, each + 1, -(-each // _MOST_POINTS)):
            trial = self.trial()
            trial.prepare(shards=4)
            ending = Calls(end_at=point)

            def killing(number: int, commit: Commit, ending: Calls = ending) -> BlockRecord:
                return ending.of(commit) if number == 1 else commit()

            with suppress(Killed):
                trial.work(0, shards=1, engine=committing(self.engine, killing))
            assert trial.complete(shards=2).digest == expected.digest, f"killed at call {point} of a commit"

    def test_it_may_be_suspended(self, expected: RunResult) -> None:
        trial = self.trial()
        trial.prepare(shards=2)

        def stopping(number: int, commit: Commit) -> BlockRecord:
            trial.stop.wanted = number == 1
            return commit()

        with pytest.raises(Interrupted) as stopped:
            trial.work(0, shards=2, engine=committing(self.engine, stopping))
        assert stopped.value.exit_code == ExitCode.TERMINATED
        trial.stop.wanted = False
        assert trial.complete(shards=2).digest == expected.digest

    # -- workers that are two

    @pytest.mark.parametrize("shards", [1, 3])
    def test_a_worker_that_was_taken_for_dead_changes_nothing(self, shards: int, expected: RunResult) -> None:
        trial = self.trial()
        trial.prepare()
        stalled: list[int] = []

        def stall(block: int) -> None:
            # While it stands still another one, or several, do all of its work.
            if not stalled:
                stalled.append(block)
                for shard in range(shards):
                    trial.work(shard, shards=shards)

        trial.work(0, shards=1, engine=processing(self.engine, stall))
        assert stalled
        result = trial.finalize()
        assert (result.digest, result.items) == (expected.digest, expected.items)

    # -- the last step

    def test_no_result_goes_out_before_every_block_is_there(self) -> None:
        trial = self.trial()
        trial.prepare(shards=2)
        trial.work(0, shards=2)
        with pytest.raises(WorkError, match="nothing is lost") as refused:
            trial.finalize(shards=2)
        assert refused.value.exit_code == ExitCode.FAILED

    def test_the_last_step_may_be_repeated(self, expected: RunResult) -> None:
        trial = self.trial()
        first = trial.complete(shards=2)
        files = _files(Path(trial.output)) if "://" not in trial.output else None
        assert trial.finalize(shards=2) == first
        assert trial.complete(shards=5) == first
        assert files is None or _files(Path(trial.output)) == files
        assert first.digest == expected.digest

    # -- other inputs and settings

    def test_another_input_is_another_run(self) -> None:
        trial = self.trial()
        trial.prepare()
        trial.work(0, shards=2)
        longer = self.trial(items=self.items + 1)
        trial.spec, trial.folder = longer.spec, longer.folder
        with pytest.raises(BadConfiguration, match="begun with other settings"):
            trial.prepare()

    def test_other_settings_are_another_run(self) -> None:
        trial = self.trial()
        trial.prepare()
        changed = self.change_settings(trial.spec)
        if changed is not None:
            trial.spec = changed
            with pytest.raises(BadConfiguration, match="begun with other settings"):
                trial.prepare()
        trial = self.trial()
        trial.prepare()
        trial.block_size += 1
        with pytest.raises(BadConfiguration, match=r"spec\.blockSize: 3 then, 4 now"):
            trial.prepare()

    def test_a_setting_that_is_none_is_refused_by_its_name(self) -> None:
        trial = self.trial()
        trial.spec = {**trial.spec, "noSuchSetting": 1}
        with pytest.raises(BadConfiguration, match=r"spec\.engine\.plugin\.spec\.noSuchSetting: unknown field"):
            trial.prepare()

    def test_an_empty_input_is_a_mistake(self) -> None:
        with pytest.raises(BadInput):
            self.trial(items=0).prepare()

    # -- items that fail

    def test_failed_items_are_counted_and_tolerated_up_to_a_share(self) -> None:
        self._require_broken_items()
        digests = set()
        for shards in (1, 4):
            result = self.trial(broken=2, max_failed_fraction=0.1).complete(shards=shards)
            assert (result.items.failed, result.items.all) == (2, self.items)
            assert len(result.failures) == 2
            digests.add(result.digest)
        assert len(digests) == 1

    def test_more_failed_items_than_that_fail_the_run(self) -> None:
        self._require_broken_items()
        with pytest.raises(TooManyFailedItems, match=rf"3 of {self.items} items failed.*maxFailedFraction allows 0\.1"):
            self.trial(broken=3, max_failed_fraction=0.1).complete(shards=1)

    def _require_broken_items(self) -> None:
        if not self.has_broken_items:
            pytest.skip("this engine's input has no items that could fail")

    # -- a look

    def test_a_dry_run_writes_nothing(self) -> None:
        trial = self.trial()
        before = _files(self._tmp_path)
        prepared = trial.prepare(dry_run=True)
        assert (prepared.items_total, prepared.already_complete) == (self.items, False)
        assert _files(self._tmp_path) == before

    def test_a_dry_run_says_whether_all_is_done(self) -> None:
        trial = self.trial()
        trial.complete(shards=2)
        assert trial.prepare(dry_run=True).already_complete


def _files(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
