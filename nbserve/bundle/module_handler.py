"""The handler of an `nn.Module` that is served in one line: stack payloads, call, list. Generated handlers name it.

Runs in workers, and in the notebook for the proof.
"""

from __future__ import annotations

from typing import Any

from nbserve.errors import BadRequest
from nbserve.handler import Context, Handler, Row, to_answers
from nbserve.intake import Intake, SampleIntake

__all__ = ["ModuleHandler", "payload_dtype"]


class ModuleHandler(Handler):
    """Payloads -> one tensor of `dtype` (a torch name, "float32") -> module, in eval mode -> one answer a row."""

    def __init__(self, module: Any, dtype: str) -> None:
        self.module, self.dtype = module, dtype
        self.device = "cpu"

    def initialize(self, context: Context) -> None:
        """Eval mode, and to the worker's device."""
        self.device = context.device
        self.module = self.module.eval().to(context.device)

    def __nbserve_intake__(self, sample_shape: tuple[int, ...] | None) -> Intake | None:
        """Numbers of the sample's shape need no `preprocess`: they are read into the batch's tensor at once."""
        is_ours = type(self).preprocess is ModuleHandler.preprocess
        if not sample_shape or not is_ours or self.dtype not in SampleIntake.DTYPES:
            return None
        return SampleIntake(self.dtype, sample_shape, self.preprocess, lambda tensor: tensor.to(self.device))

    def preprocess(self, rows: list[Row]) -> Any:
        """Raises BadRequest where payloads are no numbers or their shapes differ."""
        import torch

        dtype = getattr(torch, self.dtype)
        tensors = []
        for row in rows:
            try:
                tensors.append(torch.as_tensor(row.payload, dtype=dtype))
            except (TypeError, ValueError, RuntimeError) as exc:
                raise BadRequest(f"the payload is not a tensor of {self.dtype}: {exc}") from exc
        try:
            return torch.stack(tensors).to(self.device)
        except RuntimeError as exc:
            raise BadRequest(f"the payloads of one batch have different shapes: {exc}") from exc

    def inference(self, batch: Any) -> Any:
        """The module on the batch."""
        return self.module(batch)

    def postprocess(self, outputs: Any) -> list[Any]:
        """Tensors and dicts of tensors, split by row; a tuple of outputs becomes a list for each row."""
        if isinstance(outputs, tuple) and not hasattr(outputs, "_fields"):
            return [list(answers) for answers in zip(*map(to_answers, outputs), strict=True)]
        return to_answers(outputs)


def payload_dtype(module: Any, payload: Any = None) -> str:
    """dtype of the payloads: that of the sample if it has one, int64 for modules that start with an embedding, else
    that of the first floating parameter, else float32."""
    import torch

    own = getattr(payload, "dtype", None)
    if own is not None:
        return str(torch.as_tensor(payload).dtype).removeprefix("torch.")
    for part in module.modules():
        if isinstance(part, (torch.nn.Embedding, torch.nn.EmbeddingBag)):
            return "int64"
        if next(part.parameters(recurse=False), None) is not None:
            break
    dtypes = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    return str(next(dtypes, torch.float32)).removeprefix("torch.")
