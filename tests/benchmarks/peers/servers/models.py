"""The models that all servers of the comparison serve, with the same weights; a cell of the notebook for nbserve."""

import torch


def mlp() -> torch.nn.Module:
    """784-512-512-10, as in tests/benchmarks/scenarios.py: there the same seed stands before the same layers."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)
    ).eval()


class Encoder(torch.nn.Module):
    """Token ids -> 8 numbers: embedding, six layers of a transformer encoder, mean, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(384, 12, 1536, batch_first=True)
        self.embedding = torch.nn.Embedding(8000, 384)
        self.layers = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = torch.nn.Linear(384, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(batch, tokens) -> (batch, 8)."""
        return self.head(self.layers(self.embedding(ids)).mean(1))


def encoder() -> torch.nn.Module:
    """An encoder in inference mode, with the weights of seed 0."""
    torch.manual_seed(0)
    return Encoder().eval()
