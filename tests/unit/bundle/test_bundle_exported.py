"""Programs of torch.export in a bundle: rebuilt as they were, the same bytes wherever they were exported, no pickle."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export.pt2_archive import _package

from nbserve.bundle import exported
from nbserve.bundle.fingerprint import fingerprint
from nbserve.bundle.forms import Unencodable, _program
from nbserve.errors import BundleError

SOURCE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.register_buffer("scale", torch.full((3,), 2.0))
        self.offset = torch.arange(3.0)
    def forward(self, x):
        return self.linear(x).relu() * self.scale + self.offset
"""


@pytest.fixture(scope="module")
def programs() -> list[Any]:
    """The same module exported from two files."""
    made = []
    for file in ("/tmp/one.py", "/tmp/two.py"):
        torch.manual_seed(0)
        namespace: dict[str, Any] = {"nn": nn, "torch": torch, "__name__": "nets"}
        exec(compile(SOURCE, file, "exec"), namespace)
        batch = torch.export.Dim("batch")
        net = namespace["Net"]().eval()
        made.append(torch.export.export(net, (torch.ones(2, 2),), dynamic_shapes=({0: batch},)))
    return made


def test_it_computes_the_same(programs: list[Any], tmp_path: Path) -> None:
    program = programs[0]
    inputs = program.example_inputs
    (tmp_path / "p.pt2").write_bytes(exported.save(program))
    assert program.example_inputs is inputs
    assert any("stack_trace" in node.meta for node in program.graph.nodes)  # the notebook's is as it was
    again = exported.load(tmp_path / "p.pt2")
    for rows in (1, 5):
        x = torch.randn(rows, 2)
        assert torch.equal(again.module()(x), program.module()(x))
    assert fingerprint({"p": again}, {}) == fingerprint({"p": program}, {})
    with torch.no_grad():
        again.state_dict["linear.bias"][1] += 1
    assert fingerprint({"p": again}, {}) != fingerprint({"p": program}, {})


def test_its_bytes_say_nothing_of_where_it_was_exported(programs: list[Any]) -> None:
    one, two = map(exported.save, programs)
    assert one == two
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert not any(b"one.py" in archive.read(name) for name in archive.namelist())


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.eye(3).to_sparse())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(self.table, x)


def test_what_torch_cannot_write_is_refused() -> None:
    program = torch.export.export(Sparse(), (torch.ones(3, 1),))
    with pytest.raises(Unencodable, match=r"torch\.export\.save cannot write it: NotImplementedError") as caught:
        _program(program, "net", None)  # type: ignore[arg-type]
    assert caught.value.refuse


def test_pickles_are_neither_written_nor_read(
    programs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_package, "_should_use_pickle", lambda tensor: tensor.numel() == 6)  # as for subclasses
    with pytest.raises(Unencodable, match=r"torch\.export can only pickle linear\.weight") as caught:
        _program(programs[0], "net", None)  # type: ignore[arg-type]
    assert caught.value.refuse
    (tmp_path / "p.pt2").write_bytes(exported.save(programs[0]))
    with pytest.raises(BundleError, match=r"holds pickles .linear\.weight"):
        exported.load(tmp_path / "p.pt2")
