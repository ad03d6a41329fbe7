"""Finding an engine, reading its progress, and judging answers: the parts that need no container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbserve.bundle import Sample
from nbserve.errors import ErrorInfo, ExportError, ProofError
from nbserve.export.ask import Reply
from nbserve.export.engine import Engine, Layer, build_step, find_engine, parse_history
from nbserve.export.proof import Proof, Question, judge
from tests.unit.export.bundles import sample


def test_layers_are_read_as_podman_and_as_docker_write_them() -> None:
    podman = "0 B\t/bin/sh -c #(nop) USER 10001\n1.5 MB\t/bin/sh -c #(nop)  COPY a   b\n145 MB\tADD file:cc in /\n"
    docker = '0B\tCMD ["x"]\n2.1kB\tRUN pip install x # buildkit\n<missing>\tnonsense\n'
    assert parse_history(podman) == [Layer("ADD file:cc in /", 145_000_000), Layer("COPY a b", 1_500_000)]
    assert parse_history(docker) == [Layer("RUN pip install x", 2100)]


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("Step 3/12 : COPY wheels wheels\n", "step 3/12: COPY wheels wheels"),
        ("STEP 3/7: RUN pip install x", "step 3/7: RUN pip install x"),
        ("[1/2] STEP 2/4: WORKDIR /build", "step 2/4: WORKDIR /build"),
        ("#7 [build 2/5] COPY requirements.txt ./", "step 2/5: COPY requirements.txt ./"),
        ("#12 [2/4] WORKDIR /app", "step 2/4: WORKDIR /app"),
        ("#12 [stage-1 2/4] WORKDIR /app", "step 2/4: WORKDIR /app"),
        ("#12 DONE 0.1s", ""),
        ("--> Using cache 0d0d6f2d1df", ""),
        ("Collecting numpy==2.0", ""),
        ("STEP 1/1: " + "x" * 100, "step 1/1: " + "x" * 77 + "..."),
    ],
)
def test_steps_of_a_build(line: str, step: str) -> None:
    assert build_step(line) == step


def script(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_client_without_its_daemon_is_no_engine(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_engine() is None
    script(tmp_path, "docker", 'if [ "$1" = --version ]; then exit 0; fi; exit 1')
    assert find_engine() is None
    script(tmp_path, "podman", "exit 0")
    assert find_engine() == Engine("podman")
    script(tmp_path, "docker", "exit 0")
    assert find_engine() == Engine("docker")


def test_a_build_that_fails_says_the_engines_last_words_and_keeps_the_context(tmp_path: Path, monkeypatch: Any) -> None:
    script(tmp_path / "bin", "docker", "echo 'Step 1/2 : FROM x'; echo 'no such image' >&2; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/bin")
    steps: list[str] = []
    with pytest.raises(ExportError) as caught:
        Engine("docker").build(tmp_path, "x:1", steps.append)
    assert steps == ["step 1/2: FROM x"]
    assert "no such image" in caught.value.message
    assert "exit code 3" in caught.value.message
    assert str(tmp_path) in caught.value.hint


def question(asked: Sample | None = None, *, proven_at_start: bool = True) -> Question:
    return Question("x", asked, "the live endpoint", {}, proven_at_start, 1.0)


def reply(answer: Any) -> Reply:
    return Reply("application/json", json.dumps(answer).encode())


def test_the_largest_difference_is_told() -> None:
    same = reply([6.25, -1.25000001])
    proof = judge(question(sample()), same, lambda: same, "image", 1.5)
    assert proof.checked == "sample"
    assert proof.max_difference == pytest.approx(1e-8)
    assert judge(question(None), same, lambda: same, "venv", 2.0) == Proof(kind="venv", checked="ready", ready_s=2.0)


def test_another_answer_is_an_error_with_both() -> None:
    other = reply([6.25, -1.0])
    with pytest.raises(ProofError) as caught:
        judge(question(sample()), other, lambda: other, "image", 1.0)
    assert "at $[1]: -1.25 became -1.0" in caught.value.message
    assert "the live endpoint: [6.25, -1.25]" in caught.value.message
    assert "the image: [6.25, -1.0]" in caught.value.message


def test_answers_that_vary_were_proven_under_the_seed() -> None:
    answers = iter([reply([0.1, 0.2]), reply([0.3, 0.4])])
    proof = judge(question(sample()), next(answers), lambda: next(answers), "image", 1.0)
    assert proof.checked == "seeded"
    answers = iter([reply([0.1, 0.2]), reply([0.3, 0.4])])
    with pytest.raises(ProofError):
        judge(question(sample(), proven_at_start=False), next(answers), lambda: next(answers), "image", 1.0)
    broken = Reply(error=ErrorInfo("HandlerError", "no"))
    with pytest.raises(ProofError):
        judge(question(sample()), reply([0.1, 0.2]), lambda: broken, "image", 1.0)
