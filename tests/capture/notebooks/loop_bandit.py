# style: training loop
# about: a Thompson-sampling bandit with a seeded generator; the handler keeps on drawing from it
# insensitive: rng, arms
# input: {"user": 1}
# input: {"user": 2}
# %%
import numpy as np
from dataclasses import dataclass, field
# %%
@dataclass
class Arm:
    name: str
    wins: int = 1
    losses: int = 1
    pulls: list[int] = field(default_factory=list, repr=False)

    @property
    def mean(self):
        return self.wins / (self.wins + self.losses)
# %%
arms = [Arm("red"), Arm("green"), Arm("blue")]
truth = {"red": 0.2, "green": 0.7, "blue": 0.4}
# %%
rng = np.random.default_rng(12)
# %%
def choose(generator=rng):
    return max(arms, key=lambda a: generator.beta(a.wins, a.losses))
# %%
def pull(arm, t):
    arm.pulls.append(t)
    if rng.random() < truth[arm.name]:
        arm.wins += 1
    else:
        arm.losses += 1
# %%
for t in range(60):
    pull(choose(), t)
# %%
by_name = {a.name: a for a in arms}
[a.mean for a in arms]
# %%
%%serve_handler bandit --sample {"user": 1}
def predict(batch):
    return [{"arm": choose().name, "means": {n: round(a.mean, 4) for n, a in by_name.items()}, "same": by_name["red"] is arms[0]} for _ in batch]
