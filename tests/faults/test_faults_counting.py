"""What the fault harness counts and how it ends: fed with records, rows that break, servers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults import run as harness
from tests.faults.handlers import Executions
from tests.faults.result import COLUMNS, RowResult, Run, count, markdown_table
from tests.faults.row import Row
from tests.faults.rows.overload import SLO_S, _refused_badly, ideal_answers
from tests.faults.rows.swap import _last_old_answer
from tests.faults.stage import Stage
from tests.faults.table import ROWS
from tests.faults.traffic import Record, Traffic


def record(due_s: float = 1.0, answered_s: float = 1.5, status: int = 200, **fields: object) -> Record:
    one = Record("r1", 1, "", due_s, answered_s, status, status == 200)
    for name, value in fields.items():
        setattr(one, name, value)
    return one


def test_records_are_sorted_into_answered_meant_and_failed() -> None:
    records = [record(), record(status=500, error="bad"), record(status=500, error="own"), record(right=False)]
    run = count(records, (3, 1), meant=lambda one: one.error == "own")
    assert (run.sent, run.answered, run.meant, run.failed) == (4, 1, 1, 2)
    assert (run.begun_twice, run.completed_twice, run.longest_wait_s) == (3, 1, 0.5)
    assert run.broken == ["1 of 4 requests failed: bad", "1 of 4 requests failed: status 200"]


def test_a_request_without_an_answer_fails_and_waits_for_ever() -> None:
    run = count([record(), record(status=0, right=False, error="no answer: TimeoutError")])
    assert (run.failed, run.longest_wait_s) == (1, math.inf)
    result = RowResult("x", "a fault", "0 failed", [run])
    assert not result.held
    assert result.cells()[6] == "> 30 s"
    assert RowResult.from_plain(result.plain()) == result


def test_executions_count_each_payload_once_per_look(tmp_path: Path) -> None:
    notes = Executions(tmp_path / "executions")
    assert notes.twice() == (0, 0)
    notes.path.write_text("begun r1\nbegun r2\nbegun r1\nbegun r1\ncompleted r1\nbegun sample\nbegun sample\n")
    assert notes.twice() == (1, 0)
    with notes.path.open("a") as file:
        file.write("completed r3\ncompleted r3\nbegun r2\n")
    assert notes.twice() == (0, 1)


def test_old_answers_count_from_the_first_new_one() -> None:
    answers = [(1.0, 1), (2.0, 2), (2.4, 1), (3.0, 2), (5.0, 3)]
    records = [record(answered_s=at_s, version=version) for at_s, version in answers]
    assert _last_old_answer(records, {2: 2.9, 3: 4.0}) == pytest.approx(0.4)


def test_refusals_must_come_at_once_and_say_when_to_come_back() -> None:
    good = record(status=503, answered_s=1.01, retry_after="1")
    assert not _refused_badly([good] * 10)
    assert "no Retry-After" in _refused_badly([good, record(status=503, answered_s=1.01)])[0]
    assert "later than" in _refused_badly([good, record(status=503, retry_after="1")])[0]
    assert "waited longer" in _refused_badly([record(answered_s=9.0)])[0]


def test_what_a_server_without_overhead_would_have_answered() -> None:
    assert ideal_answers([]) == []
    assert ideal_answers([1.0, 1.0]) == [1.05, 1.05]
    burst = ideal_answers([1.0] * 200)  # the objective leaves time for ten batches of 8
    assert [burst.count(end_s) for end_s in sorted(set(burst))] == [8] * 10
    assert max(burst) == pytest.approx(1.0 + SLO_S)
    assert ideal_answers([1.0, 1.01, 3.0]) == pytest.approx([1.05, 1.1, 3.05])


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def ask(answer: Answer, requests: int) -> tuple[list[Record], Traffic]:
    """So many requests on one connection, to a server that answers in its own way."""
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed.clear()
        with contextlib.suppress(EOFError, OSError):
            await answer(reader, writer)
        with contextlib.suppress(OSError):
            await reader.read()
            writer.close()
            await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        traffic = Traffic(server.sockets[0].getsockname()[1], "", "/", random.Random(1))
        for _ in range(requests):
            await traffic.one()
        records = await traffic.stop()
        await closed.wait()
        return records, traffic


def reply(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


def right_answer(body: bytes) -> bytes:
    x = int(body.split(b'"x": ')[1].split(b",")[0])
    return body.replace(b'"x": %d' % x, b'"double": %d' % (2 * x))


def test_another_ones_answer_is_seen() -> None:
    before = b"{}"

    async def one_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal before
        while not reader.at_eof():
            body = right_answer(await read_request(reader))
            writer.write(reply(before))
            before = body

    records, _ = asyncio.run(ask(one_late, 2))
    assert [one.right for one in records] == [False, False]
    assert "another's answer" in records[1].error


def test_a_second_answer_is_seen() -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(right_answer(await read_request(reader))) * 2)

    records, traffic = asyncio.run(ask(twice, 1))
    assert records[0].right
    assert traffic.strays == 1


def test_a_lost_connection_is_a_failed_request_and_opened_again() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_request(reader)
        writer.write(reply(right_answer(body)))
        await read_request(reader)
        writer.transport.abort()

    records, traffic = asyncio.run(ask(cut, 3))
    assert [one.right for one in records] == [True, False, True]
    assert records[1].error.startswith("no answer: IncompleteReadError")
    assert traffic.reconnects == 1


class Fails(Row):
    """No gateway needed to fail."""

    name, fault, must = "swap", "none", "hold"

    async def prepare(self, stage: Stage) -> None:
        pass

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        return Run(sent=1, failed=1, broken=["1 of 1 requests failed"])


class Raises(Fails):
    async def run(self, stage: Stage, rng: random.Random) -> Run:
        raise RuntimeError("on purpose")


class Hangs(Fails):
    limit_s = 0.1

    async def run(self, stage: Stage, rng: random.Random) -> Run:
        await asyncio.sleep(60)
        raise AssertionError


class Holds(Fails):
    async def run(self, stage: Stage, rng: random.Random) -> Run:
        return Run(sent=1, answered=1)


@pytest.mark.parametrize(
    ("row", "code", "says"),
    [
        (Fails, 1, "1 of 1 requests failed"),
        (Raises, 1, "RuntimeError: on purpose"),
        (Hangs, 1, "not over after 0.1 s"),
        (Holds, 0, ""),
    ],
)
def test_a_broken_must_is_the_exit_code(
    row: type[Row],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole program, with a real gateway, and a row put in the place of another."""
    monkeypatch.setitem(ROWS, "swap", row)
    out = tmp_path / "faults.json"
    assert harness.main(["--rows", "swap", "--times", "1", "--out", str(out), "--no-page"]) == code
    assert says in capsys.readouterr().out
    assert harness.read(out)["swap"].held is (code == 0)


def test_the_page_has_the_table_and_the_broken_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{harness.BEGIN}\nformer\n{harness.END}\nafter\n")
    results = [RowResult("a", "fault a", "must a", [Run(sent=2, answered=2)]), RowResult("b", "fault b", "must b")]
    harness.write_page(page, results, "a machine")
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith(f"{harness.END}\nafter\n")
    assert "former" not in text
    assert markdown_table(results) in text
    assert all(line.count("|") == len(COLUMNS) + 1 for line in text.splitlines() if line.startswith("|"))
    assert "Broken: **fault b**" in text
    assert "Broken: **fault a**" not in text
