"""The worker's profiler alone, with real torch: its bounds, and that nothing of it harms a batch."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity

from nbserve.errors import MeasureError
from nbserve.pipeline import Item
from nbserve.wire.frames import Frame, Kind, decode_meta
from nbserve.wire.profile import Profile, Profiled
from nbserve.worker.profiler import Profiler
from nbserve.worker.profiler_args import _OTHERS, _SWITCHES, arguments_of


class Bench:
    """What the loop does around a profiler."""

    def __init__(self, tmp_path: Path, handler: Any = None, **asked: Any) -> None:
        self.frames: list[Frame] = []
        self.over = 0
        self.ended = asyncio.Event()
        self.stages: list[str] = []
        self.file = tmp_path / "t.json.gz"
        self.profiler = Profiler(
            Profile("p", str(self.file), **asked),
            handler=handler,
            device="cpu",
            loop=asyncio.get_running_loop(),
            send=self.frames.append,
            over=self._count,
        )

    def _count(self) -> None:
        self.over += 1
        self.ended.set()

    @property
    def kinds(self) -> list[str]:
        return [frame.kind.name for frame in self.frames]

    @property
    def result(self) -> Profiled:
        [frame] = [frame for frame in self.frames if frame.kind is Kind.PROFILED]
        return decode_meta(frame.meta, Profiled)

    def batch(self, number: int, request_id: str = "r", work: Callable[[], Any] = lambda: torch.ones(3) + 1) -> None:
        """One batch, as worker/loop has it."""
        tell = self.profiler.begin(number, [Item(b"12", request_id=request_id)], self.stages.append)
        for stage in ("decode", "inference", "encode"):
            tell(stage)
            if stage == "inference":
                work()
        self.profiler.end(number, [b"answer"])


class Told:
    """A handler as TorchServe's are."""

    def __init__(self, **profiler_args: Any) -> None:
        self.profiler_args = profiler_args


def events(file: Path) -> list[str]:
    return [event["name"] for event in json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]]


def played(play: Callable[[], None]) -> None:
    async def run() -> None:
        play()

    asyncio.run(run())


def test_so_many_batches_after_one_to_warm_up(tmp_path: Path) -> None:
    def play() -> None:
        bench = Bench(tmp_path, batches=2)
        bench.profiler.start()
        assert bench.kinds == ["PAUSED", "RESUMED"], "starting takes a second the first time"
        for number in (1, 2, 3, 4):
            bench.batch(number)
        assert bench.kinds == ["PAUSED", "RESUMED", "PAUSED", "PROFILED", "RESUMED"]
        result = bench.result
        assert [batch.batch_id for batch in result.batches] == [2, 3], "the first one warms up, and is weighed"
        assert [stage.name for stage in result.batches[0].stages] == ["decode", "inference", "encode"]
        assert (result.batches[0].request_bytes, result.batches[0].answer_bytes) == (2, 6)
        assert sum(stage.seconds for stage in result.batches[0].stages) <= result.batches[0].seconds
        assert (result.error, result.truncated, result.note) == ("", "", "")
        assert result.profiler.startswith("torch ")
        assert result.trace_bytes == bench.file.stat().st_size
        assert [name for name in events(bench.file) if name.startswith("nbserve batch")] == [
            "nbserve batch 2",
            "nbserve batch 3",
        ]
        assert bench.stages == ["decode", "inference", "encode"] * 4
        assert bench.over == 1

    played(play)


def test_too_many_events_end_it_early_and_it_says_so(tmp_path: Path) -> None:
    def many() -> None:
        for _ in range(100):
            torch.ones(2)

    def play() -> None:
        bench = Bench(tmp_path, batches=50, max_events=700)
        bench.profiler.start()
        for number in range(1, 10):
            bench.batch(number, work=many)
        assert "are all that fit" in bench.result.truncated
        assert 1 <= len(bench.result.batches) <= 6
        assert bench.result.events <= 700 * 1.1

    played(play)


def test_a_trace_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    def play() -> None:
        bench = Bench(tmp_path, batches=1, max_bytes=100)
        bench.profiler.start()
        bench.batch(1)
        bench.batch(2)
        assert "at most" in bench.result.error
        assert not bench.file.exists()

    played(play)


def test_a_lone_batch_is_better_than_none(tmp_path: Path) -> None:
    def play() -> None:
        bench = Bench(tmp_path, batches=5)
        bench.profiler.start()
        bench.batch(1)
        bench.profiler.stop()
        assert [batch.batch_id for batch in bench.result.batches] == [1]
        assert "aten::add" in events(bench.file)
        bench.profiler.stop()
        assert bench.over == 1

    played(play)


def test_it_ends_by_itself_when_its_time_is_over(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path, seconds=0.01)
        bench.profiler.start()
        await asyncio.wait_for(bench.ended.wait(), 60)
        assert "no batch came" in bench.result.note
        assert not bench.file.exists()

    asyncio.run(run())


def test_one_request_is_waited_for(tmp_path: Path) -> None:
    def play() -> None:
        bench = Bench(tmp_path, batches=1, request_id="mine")
        bench.profiler.start()
        assert bench.kinds == []
        bench.batch(1)
        bench.batch(2, request_id="mine")
        bench.batch(3, request_id="mine")
        assert [batch.batch_id for batch in bench.result.batches] == [2]
        assert "nbserve batch 1" not in events(bench.file)
        other = Bench(tmp_path, batches=1, request_id="mine")
        other.profiler.start()
        other.profiler.stop()
        assert other.kinds == ["PROFILED"], "nothing was recorded: no pause"

    played(play)


def test_what_goes_wrong_ends_the_profile_not_the_batch(tmp_path: Path) -> None:
    def play() -> None:
        bench = Bench(tmp_path / "nowhere", batches=1)
        bench.profiler.start()
        bench.batch(1)
        bench.batch(2)
        assert bench.result.error
        assert bench.kinds[-1] == "RESUMED"
        with torch.profiler.profile():  # the handler's own: torch has one at a time
            second = Bench(tmp_path, batches=1)
            second.profiler.start()
            second.batch(1)
        assert second.stages == ["decode", "inference", "encode"]
        second.profiler.stop()
        assert second.kinds.count("PROFILED") == 1
        assert second.kinds.count("PAUSED") == second.kinds.count("RESUMED")

    played(play)


def test_a_coroutines_batch_that_is_cut_off_leaves_no_open_range(tmp_path: Path) -> None:
    def play() -> None:
        bench = Bench(tmp_path, batches=5)
        bench.profiler.start()
        bench.batch(1)
        bench.batch(2)
        tell = bench.profiler.begin(3, [Item(b"1")], bench.stages.append)
        tell("inference")
        bench.profiler.stop()
        tell("encode")
        bench.profiler.end(3, [])
        assert [batch.batch_id for batch in bench.result.batches] == [2]
        with torch.profiler.profile() as after:
            torch.ones(1)
        assert not {"inference", "encode"} & {event.name for event in after.events() or []}

    played(play)


# --- profiler_args, as TorchServe's handlers have them ---

CPU = ProfilerActivity.CPU
THERE = [CPU, ProfilerActivity.CUDA]


def keywords(asked: Profile, **profiler_args: Any) -> dict[str, Any]:
    """What is on, and the activities."""
    found = arguments_of(asked, Told(**profiler_args), THERE, CPU).keywords
    return {name: value for name, value in found.items() if value}


def test_what_a_handler_says_is_added_to_what_is_asked_for() -> None:
    assert keywords(Profile("p")) == {"activities": THERE}
    asked = keywords(Profile("p", shapes=True), with_flops=True, record_shapes=False, activities=[CPU])
    assert asked == {"record_shapes": True, "with_flops": True, "activities": [CPU]}
    assert arguments_of(Profile("p"), object(), [CPU], CPU).given == (), "any other handler"
    no_gpu = arguments_of(Profile("p"), Told(activities=THERE), [CPU], CPU)
    assert no_gpu.keywords["activities"] == [CPU], "TorchServe's own default names a GPU, whether there is one or not"


def test_with_torchserves_switch_a_handler_that_says_anything_says_all() -> None:
    always = Profile("p", shapes=True, log_table=True)
    assert keywords(always) == {"record_shapes": True, "activities": THERE}
    assert keywords(always, profile_memory=True) == {"profile_memory": True, "activities": THERE}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"schedule": print}, "Told.profiler_args: schedule cannot be used: nbserve begins and ends a profile"),
        ({"use_cuda": True}, "use_cuda cannot be used: torch has replaced it by activities"),
        ({"shapes": True}, "shapes cannot be used: torch.profiler.profile has no such argument"),
        ({"record_shapes": "yes"}, "record_shapes must be True or False, not 'yes'"),
        ({"on_trace_ready": "folder"}, "on_trace_ready must be a function"),
        ({"activities": ["cpu"]}, "activities must be a list of torch.profiler.ProfilerActivity"),
        ({"activities": [ProfilerActivity.CUDA]}, "activities must have ProfilerActivity.CPU"),
    ],
)
def test_what_cannot_be_is_named_and_the_reason(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    def play() -> None:
        bench = Bench(tmp_path, handler=Told(**given))
        bench.profiler.start()
        assert told in bench.result.error
        assert "MeasureError" not in bench.result.error
        bench.batch(1)
        assert bench.stages == ["decode", "inference", "encode"], "it is served all the same"

    played(play)
    torchs = set(inspect.signature(torch.profiler.profile).parameters)
    assert torchs <= {*_OTHERS, *_SWITCHES, "activities", "on_trace_ready"}, "each is taken, or refused for a reason"


def test_args_that_are_no_dict() -> None:
    handler = Told()
    handler.profiler_args = ["record_shapes"]  # type: ignore[assignment]
    with pytest.raises(MeasureError, match="is a list, and must be a dict"):
        arguments_of(Profile("p"), handler, THERE, CPU)


def test_tensorboards_trace_handler_gets_the_trace_and_so_do_we(tmp_path: Path) -> None:
    tables: list[str] = []

    def both(recorder: torch.profiler.profile) -> None:
        torch.profiler.tensorboard_trace_handler(str(tmp_path / "plain"))(recorder)
        torch.profiler.tensorboard_trace_handler(str(tmp_path / "packed"), use_gzip=True)(recorder)
        tables.append(recorder.key_averages().table(row_limit=3))

    def play() -> None:
        bench = Bench(tmp_path, handler=Told(on_trace_ready=both, record_shapes=True), batches=2)
        bench.profiler.start()
        for number in (1, 2, 3):
            bench.batch(number)
        assert bench.result.note == "with the handler's profiler_args: on_trace_ready, record_shapes"
        ours = json.loads(gzip.decompress(bench.file.read_bytes()))
        assert any("Input Dims" in event.get("args", {}) for event in ours["traceEvents"])
        [plain], [packed] = (list((tmp_path / name).iterdir()) for name in ("plain", "packed"))
        assert json.loads(plain.read_text()) == ours == json.loads(gzip.decompress(packed.read_bytes()))
        assert len(tables) == 1, "once a profile: the batch to warm up is none"

    played(play)


def test_a_trace_handler_that_fails_costs_its_own_file_only(tmp_path: Path) -> None:
    def fails(recorder: object) -> None:
        raise PermissionError("not there")

    def play() -> None:
        bench = Bench(tmp_path, handler=Told(on_trace_ready=fails), batches=1)
        bench.profiler.start()
        bench.batch(1)
        bench.batch(2)
        assert bench.result.note.endswith("its on_trace_ready failed: PermissionError: not there")
        assert bench.result.error == ""
        assert bench.file.exists()

    played(play)
