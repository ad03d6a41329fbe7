# style: language
# about: an abstract base with a registered class, a runtime protocol, abstract properties
# input: 4
# input: -4
# unreached: Step.name, Scorer.score
# %%
from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable
# %%
class Step(ABC):
    @property
    @abstractmethod
    def name(self): ...

    @abstractmethod
    def apply(self, x):
        return x

    def __repr__(self):
        return f"<{self.name}>"
# %%
@runtime_checkable
class Scorer(Protocol):
    def score(self, x: float) -> float: ...
# %%
class Double(Step):
    name = "double"

    def apply(self, x):
        return super().apply(x) * 2

class Negate(Step):
    @property
    def name(self):
        return "negate"

    def apply(self, x):
        return -x

    def score(self, x):
        return abs(x)
# %%
@Step.register
class Foreign:
    def apply(self, x):
        return x + 100
# %%
steps = [Double(), Negate(), Foreign()]
# %%
%%serve_handler steps --sample 4
def predict(batch):
    answers = []
    for x in batch:
        path = []
        for step in steps:
            x = step.apply(x)
            score = step.score(x) if isinstance(step, Scorer) else None
            path.append([type(step).__name__, x, score, isinstance(step, Step)])
        answers.append({"path": path, "shown": [repr(s) for s in steps[:2]]})
    return answers
