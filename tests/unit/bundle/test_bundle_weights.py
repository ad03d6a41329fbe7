"""Tensors and modules: files that are shared, aligned and private to each reader."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nbserve.bundle.decoder import Decoder
from nbserve.bundle.encoder import Encoder, Shared, Unencodable
from nbserve.bundle.values import Values


class _NoValues:
    _namespace: dict[str, Any] = {}


_NO_VALUES: Any = _NoValues()


def write(obj: Any, folder: Path) -> Any:
    """The value's tree; its tensors in folder/w.safetensors."""
    encoder = Encoder("x", Shared(), lambda _: None)
    tree = encoder.encode(obj)
    for file, data in encoder.files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(data)
    if encoder.weights is not None:
        encoder.weights.finish()
        (folder / "w.safetensors").write_bytes(b"".join(bytes(chunk) for chunk in encoder.weights.chunks()))
    return json.loads(json.dumps(tree))


def read(doc: Any, folder: Path) -> Any:
    return Decoder(folder, lambda path: Values._resolve(_NO_VALUES, path)).decode("x", doc, "w.safetensors")


def round_trip(obj: Any, folder: Path) -> Any:
    return read(write(obj, folder), folder)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.requires_grad == b.requires_grad
        and type(a) is type(b)
        and torch.equal(
            a.detach().contiguous().view(-1).view(torch.uint8), b.detach().contiguous().view(-1).view(torch.uint8)
        )
    )


DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.uint16,
]  # fmt: skip


@given(dtype=st.sampled_from(DTYPES), shape=st.lists(st.integers(0, 5), max_size=4))
@settings(deadline=None)
def test_every_dtype_and_shape(dtype: torch.dtype, shape: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    tensor = torch.randint(0, 2, shape).to(dtype)
    again = round_trip([tensor, torch.ones(3, dtype=torch.uint8)], tmp_path_factory.getbasetemp())
    assert same(again[0], tensor)


def test_strides_are_kept(tmp_path: Path) -> None:
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    turned = torch.rand(3, 4).t()
    gaps = torch.rand(10)[::2]
    again = round_trip([image, turned, gaps], tmp_path)
    assert again[0].is_contiguous(memory_format=torch.channels_last)
    assert again[1].stride() == turned.stride()
    assert all(same(a, b) for a, b in zip(again, [image, turned, gaps], strict=True))
    assert (tmp_path / "w.safetensors").stat().st_size < 4096


def test_a_slice_does_not_drag_its_data_set_along(tmp_path: Path) -> None:
    data = torch.rand(10_000, 10)
    first, last = round_trip([data[0], data[-1]], tmp_path)
    assert same(first, data[0])
    assert same(last, data[-1])
    assert (tmp_path / "w.safetensors").stat().st_size < 1024


def test_views_of_one_storage_stay_views(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    whole, part, bits = round_trip([base, base[3:7], base.view(torch.int32)[4:6]], tmp_path)
    part.add_(100)
    assert torch.equal(whole[3:7], part)
    assert bits.view(torch.float32).tolist() == [104.0, 105.0]
    assert base[3] == 3.0


def test_safetensors_reads_it_and_data_is_aligned(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    module = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 3))
    round_trip(module, tmp_path)
    data = (tmp_path / "w.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    assert (8 + size) % 64 == 0
    header = json.loads(data[8 : 8 + size])
    assert header["0.weight"]["data_offsets"][0] % 64 == 0
    loaded = load_file(tmp_path / "w.safetensors")
    assert {key: value.shape for key, value in loaded.items()} == {k: v.shape for k, v in module.state_dict().items()}
    assert all(torch.equal(loaded[key], value) for key, value in module.state_dict().items())


def test_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    module = nn.LSTM(3, 4, num_layers=2)
    round_trip(module, tmp_path)
    first = (tmp_path / "w.safetensors").read_bytes()
    round_trip(module, tmp_path)
    assert (tmp_path / "w.safetensors").read_bytes() == first


def test_changes_in_place_stay_in_this_reader(tmp_path: Path) -> None:
    tensor = torch.zeros(100_000)
    doc = write(tensor, tmp_path)
    before = (tmp_path / "w.safetensors").read_bytes()
    one, other = read(doc, tmp_path), read(doc, tmp_path)
    one.add_(1)
    assert one.sum() == 100_000
    assert other.sum() == 0
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_the_mapping_outlives_the_file(tmp_path: Path) -> None:
    tensor = torch.arange(50_000)
    doc = write(tensor, tmp_path)
    again = read(doc, tmp_path)
    (tmp_path / "w.safetensors").unlink()
    assert torch.equal(again, tensor)


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(10, 4)
        self.decoder = nn.Linear(4, 10, bias=False)
        self.decoder.weight = self.encoder.weight
        self.again = self.encoder
        self.register_buffer("steps", torch.arange(4))
        self.register_buffer("mask", torch.ones(4), persistent=False)
        self.plain = torch.full((2,), 7.0)
        self.settings = {"k": (1, 2), "names": ["a"], "fn": torch.relu}
        self.register_buffer("nothing", None)
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)) for _ in range(2)]
        )
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.encoder(ids) * self.mask + self.steps + self.plain.sum()
        for block in self.blocks:
            x = self.settings["fn"](block(x)) * self.scale
        return self.decoder(x)


def trained(module: Custom) -> Custom:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.randint(0, 10, (8,))).sum().backward()
        optimizer.step()
    return module


def test_a_module_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = trained(Custom())
    module.blocks[0].eval()
    monkeypatch.setattr(Custom, "__init__", None)
    monkeypatch.setattr(nn.Linear, "__init__", None)
    again = round_trip(module, tmp_path)
    assert again.decoder.weight is again.encoder.weight, "tied"
    assert again.again is again.encoder
    assert again.state_dict().keys() == module.state_dict().keys()
    assert "mask" not in again.state_dict()
    assert dict(again.named_buffers()).keys() == dict(module.named_buffers()).keys()
    assert [m.training for m in again.modules()] == [m.training for m in module.modules()]
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in module.parameters()]
    assert again.blocks[1][1].num_batches_tracked == 3
    assert again.settings == module.settings
    assert not [tensor for tensor in [*again.parameters(), *again.buffers()] if tensor.is_meta]
    ids = torch.arange(6)
    assert torch.equal(again.eval()(ids), module.eval()(ids))
    hooks = [key for key, value in vars(again).items() if "hook" in key and value]
    assert not hooks
    again.register_forward_hook(lambda *_: None)
    again.train()(ids).sum().backward()
    assert again.encoder.weight.grad is not None


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True), (5, 2, 3)),
        (nn.GRU(3, 4), (5, 2, 3)),
        (nn.MultiheadAttention(8, 2), None),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2), (2, 5, 8)),
        (nn.Conv2d(3, 4, 3), (1, 3, 8, 8)),
        (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.LayerNorm(3)).double(), None),
        (nn.ParameterList([nn.Parameter(torch.ones(2))]), None),
        (nn.ParameterDict({"a": nn.Parameter(torch.ones(2))}), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_modules_of_torch(module: nn.Module, shape: tuple[int, ...] | None, tmp_path: Path) -> None:
    module.eval()
    again = round_trip(module, tmp_path).eval()
    for (name, a), (name_too, b) in zip(again.named_parameters(), module.named_parameters(), strict=True):
        assert name == name_too
        assert same(a, b)
    if shape is not None:
        x = torch.rand(shape)
        one, other = again(x), module(x)
        assert torch.equal(one[0] if isinstance(one, tuple) else one, other[0] if isinstance(other, tuple) else other)


def test_a_buffer_object_stays_one(tmp_path: Path) -> None:
    module = nn.Module()
    module.a = nn.Buffer(torch.ones(2), persistent=False)
    again = round_trip(module, tmp_path)
    assert "a" in again._buffers
    assert "a" in again._non_persistent_buffers_set
    again.b = round_trip(nn.Buffer(torch.ones(1)), tmp_path)
    assert "b" in again._buffers


def test_torch_dtypes_devices_and_sizes(tmp_path: Path) -> None:
    value = [torch.float16, torch.device("cuda:1"), torch.Size([1, 2])]
    assert round_trip(value, tmp_path) == value


def meta() -> Any:
    return torch.empty(3, device="meta")


def sparse() -> Any:
    return torch.eye(2).to_sparse()


def quantized() -> Any:
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def optimizer() -> Any:
    return torch.optim.SGD(nn.Linear(1, 1).parameters())


def mkldnn() -> Any:
    return torch.ones(2, 2).to_mkldnn()


def parametrized() -> Any:
    return nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))


def script_module() -> Any:
    return torch.jit.script(nn.Linear(2, 2))


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (meta, "meta"),
        (optimizer, "belongs to training"),
        (mkldnn, "layout"),
    ],
)
def test_tensors_and_modules_without_a_form(make: Any, reason: str) -> None:
    with pytest.raises(Unencodable, match=reason):
        Encoder("x", Shared(), lambda _: None).encode(make())


def per_channel() -> Any:
    return torch.quantize_per_channel(torch.ones(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.quint8)


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:Sparse")
@pytest.mark.parametrize("make", [quantized, per_channel], ids=["tensor", "channel"])
def test_quantized_tensors(make: Any, tmp_path: Path) -> None:
    value = make()
    again = round_trip(value, tmp_path)
    assert torch.equal(again.int_repr(), value.int_repr())
    assert torch.equal(again.dequantize(), value.dequantize())
    assert again.qscheme() == value.qscheme()
    assert again.dtype == value.dtype


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr", "sparse_csc"])
def test_sparse_tensors(layout: str, tmp_path: Path) -> None:
    value = torch.tensor([[0.0, 2.0], [3.0, 0.0]]).to_sparse(layout=getattr(torch, layout))
    again = round_trip(value, tmp_path)
    assert again.layout == value.layout
    assert torch.equal(again.to_dense(), value.to_dense())


def test_parametrized_modules(tmp_path: Path) -> None:
    value = nn.Sequential(parametrized(), nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))).eval()
    again = round_trip(value, tmp_path)
    assert nn.utils.parametrize.is_parametrized(again[0])
    assert type(again[0]).__name__ == "ParametrizedLinear"
    assert torch.equal(again(torch.ones(1, 2)), value(torch.ones(1, 2)))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_script_modules(tmp_path: Path) -> None:
    value = script_module()
    again = round_trip(value, tmp_path)
    assert torch.equal(again(torch.ones(1, 2)), value(torch.ones(1, 2)))


def test_a_generator_goes_on_where_it_was(tmp_path: Path) -> None:
    value = torch.Generator().manual_seed(3)
    torch.rand(5, generator=value)
    again = round_trip(value, tmp_path)
    assert torch.equal(torch.rand(3, generator=again), torch.rand(3, generator=value))


def test_a_tensor_with_history_loses_it(tmp_path: Path) -> None:
    leaf = torch.ones(2, requires_grad=True)
    again_leaf, again = round_trip([leaf, leaf * 2], tmp_path)
    assert again_leaf.requires_grad
    assert again.tolist() == [2.0, 2.0]
    assert not again.requires_grad
