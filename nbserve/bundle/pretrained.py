"""Hugging Face models, tokenizers and processors: the folder that `save_pretrained` writes, read offline.

Called by `structure.py`. What the folder does not hold stands beside it: buffers that a state dict leaves out, which
modules were in training mode, which parameters were frozen, plain attributes that were set by hand. Weights are mapped
from the folder's file where torch read the same numbers from it, so that workers share them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbserve.bundle.digests import Earlier, link
from nbserve.errors import BundleError

__all__ = ["attributes", "describe", "is_pretrained", "load", "save"]


def is_pretrained(obj: Any) -> bool:
    """Is it an object of transformers (or a subclass) that saves itself to a folder?"""
    if "transformers" not in sys.modules or isinstance(obj, type):
        return False
    own = any(cls.__module__.partition(".")[0] == "transformers" for cls in type(obj).__mro__)
    return own and hasattr(obj, "save_pretrained") and hasattr(type(obj), "from_pretrained")


def describe(model: Any, encode: Callable[[Any, str], Any]) -> dict[str, Any]:
    """What save_pretrained leaves out of a model; {} for tokenizers and processors."""
    if not hasattr(model, "named_buffers"):
        return {}
    kept = model.state_dict(keep_vars=True).keys()
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "training": [name for name, module in model.named_modules() if module.training],
        "frozen": [name for name, parameter in model.named_parameters() if not parameter.requires_grad],
        "buffers": {name: encode(buffer, name) for name, buffer in model.named_buffers() if name not in kept},
        "attributes": encode({path: value for path, value in attributes(model) if _is_plain(value)}, "attributes"),
    }


def attributes(model: Any) -> Iterator[tuple[str, Any]]:
    """Public attributes of a model and its modules by path, whether its constructor or somebody else set them."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if not key.startswith("_") and key not in _KNOWN_OTHERWISE:
                yield f"{name}.{key}".removeprefix("."), value


_KNOWN_OTHERWISE = ("training", "config", "generation_config", "name_or_path", "warnings_issued")


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def save(obj: Any, folder: Path, earlier: Earlier) -> None:
    """Write the folder. The state that the last call left in a fast tokenizer is not part of it.

    Weights that an earlier bundle has are not written again but linked.
    """
    with _quiet(), _linking(folder, earlier):
        obj.save_pretrained(str(folder))
    tokenizer = folder / "tokenizer.json"
    if tokenizer.exists():
        content = json.loads(tokenizer.read_text("utf-8"))
        content["truncation"] = content["padding"] = None  # every call sets both anew
        tokenizer.write_text(json.dumps(content, ensure_ascii=False), "utf-8")  # indented, Python would write it: slow


def load(cls: Any, folder: Path, node: dict[str, Any], buffers: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """The object, from the folder alone: nothing is downloaded. Raises BundleError where keys do not fit."""
    if "buffers" not in node:
        with _quiet():
            return cls.from_pretrained(str(folder), local_files_only=True)
    import torch

    with _quiet():
        model, report = cls.from_pretrained(
            str(folder),
            local_files_only=True,
            dtype=getattr(torch, node["dtype"]),
            output_loading_info=True,
        )
    wrong = {key: sorted(map(str, keys)) for key, keys in report.items() if keys}
    if wrong:
        raise BundleError(
            f"{folder.name}: the saved weights do not fit {cls.__name__}: {wrong}",
            hint="layers changed after from_pretrained cannot be saved by save_pretrained; "
            "put the model into a class of your own that builds them",
        )
    for name, buffer in buffers.items():
        owner, _, last = name.rpartition(".")
        model.get_submodule(owner)._buffers[last] = buffer
    for path, value in attributes.items():
        owner, _, last = path.rpartition(".")
        module = model.get_submodule(owner)
        if last not in vars(module) or vars(module)[last] != value:
            setattr(module, last, value)
    _map_weights(model, folder)
    training, frozen = set(node["training"]), set(node["frozen"])
    for name, module in model.named_modules():
        module.training = name in training
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return model


def _map_weights(model: Any, folder: Path) -> None:
    """Let parameters be the file's pages where they are equal to them: N workers, one copy."""
    import torch

    from nbserve.bundle.weights import MappedWeights

    own = model.state_dict(keep_vars=True)
    for path in sorted(folder.glob("*.safetensors")):
        mapped = MappedWeights(path)
        for key in mapped.keys() & own.keys():
            base = mapped.base(key)
            if base.shape != own[key].shape or own[key].device.type != "cpu":
                continue
            # The file is the truth about dtype: from_pretrained casts all weights to one.
            if base.dtype != own[key].dtype or torch.equal(base, own[key]):
                own[key].data = base


@contextmanager
def _linking(folder: Path, earlier: Earlier) -> Iterator[None]:
    """transformers' function that writes weights is one that compares first: five times as fast as writing."""
    modeling = sys.modules.get("transformers.modeling_utils")
    write = getattr(modeling, "safe_save_file", None)
    if write is None:  # another version: it writes them
        yield
        return
    from nbserve.bundle.weights import holds

    def link_or_write(tensors: Mapping[str, Any], filename: Any, metadata: Any = None) -> None:
        path = Path(filename)
        if path.parent != folder or not any(
            holds(known, tensors, metadata) and link(known, path) for known in earlier(path.name)
        ):
            write(tensors, filename, metadata=metadata)

    modeling.safe_save_file = link_or_write  # type: ignore[union-attr]
    try:
        yield
    finally:
        modeling.safe_save_file = write  # type: ignore[union-attr]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars in cells and worker logs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
