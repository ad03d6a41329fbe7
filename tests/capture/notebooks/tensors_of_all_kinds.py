# style: values
# about: dtypes, views of one storage, transposes, expanded and empty tensors, scalars, requires_grad, tied in two names
# insensitive: mask, empty, grad
# input: 0
# input: 2
# %%
import torch

base = torch.arange(12, dtype=torch.float64).reshape(3, 4)
view = base[1:, ::2]
flipped = base.t()
alias = base
# %%
wide = torch.tensor([1.5, 2.5], dtype=torch.bfloat16).unsqueeze(1).expand(2, 3)
mask = torch.tensor([True, False, True])
empty = torch.zeros(0, 5)
scalar = torch.tensor(3.25, dtype=torch.float16)
grad = torch.ones(2, requires_grad=True)
counts = {torch.int8: torch.tensor([-1], dtype=torch.int8), "u8": torch.tensor([255], dtype=torch.uint8)}
wave = torch.tensor([1 + 2j, 3 - 1j])
# %%
base[1, 0] = 100.0
# %%
%%serve_handler tensors --sample 0
def predict(batch):
    answers = []
    for i in batch:
        before = view.tolist()
        alias[1, 0] += i
        answers.append({"before": before, "after": view.tolist(), "t": flipped[:, i].tolist(), "wide": wide.float().tolist(),
                        "mask": base[mask].tolist(), "empty": list(empty.shape), "s": scalar.item(), "grad": grad.requires_grad,
                        "c": {str(k): v.tolist() for k, v in counts.items()}, "wave": [wave.real.tolist(), wave.imag.abs().tolist()]})
        alias[1, 0] -= i
    return answers
