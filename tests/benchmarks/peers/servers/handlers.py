"""What each workload does with a batch of decoded bodies, the same for every peer. Imported by the three servers."""

from collections.abc import Callable
from typing import Any

Predict = Callable[[list[Any]], list[Any]]


def make(workload: str, threads: int) -> Predict:
    """The function of a workload; `threads`: torch's, 0 = its own default."""
    if workload == "noop":
        return lambda bodies: [body["data"] for body in bodies]
    import models
    import torch

    if threads:
        torch.set_num_threads(threads)
    model = models.mlp() if workload == "mlp" else models.encoder()
    kind = torch.float32 if workload == "mlp" else torch.int64

    @torch.inference_mode()
    def predict(bodies: list[Any]) -> list[Any]:
        answers = model(torch.tensor(bodies, dtype=kind))
        return (answers.softmax(-1) if workload == "mlp" else answers).tolist()

    return predict
