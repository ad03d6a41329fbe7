# style: language
# about: from __future__ import annotations in the third cell: those before were compiled without it, those after with it
# input: 2
# input: 3
# %%
class Before:
    limit: int = 3

    def cut(self, x: "int") -> int:
        return min(x, self.limit)
# %%
def kinds(cls):
    return {key: value if isinstance(value, str) else value.__name__ for key, value in cls.__annotations__.items()}
# %%
from __future__ import annotations

from dataclasses import dataclass

@dataclass
class After:
    size: int
    other: After | None = None

    def total(self) -> int:
        return self.size + (self.other.total() if self.other else 0)
# %%
def chain(n: int) -> After:
    return After(n, After(1))
# %%
%%serve_handler sticky --sample 2
def predict(batch):
    return [{"cut": Before().cut(x), "total": chain(x).total(), "after": kinds(After)} for x in batch]
