# style: training loop
# about: Q-learning in a grid world: an environment class with spaces, epsilon schedules by closures, a table of numpy, a policy as text arrows, episodes replayed for an answer
# input: {"start": [0, 0]}
# input: {"start": [3, 1], "steps": 2}
# input: {"start": [2, 3]}
# input: {"start": [9, 9]}
# input: {"start": [3, 0]}
# insensitive: Q, GRID, ARROWS, env
# unreached: Grid.__init__
# %%
import random
from collections import namedtuple

import numpy as np
# %%
GRID = """
.....
.##..
...#.
.#..G
"""
MOVES = {"N": (-1, 0), "S": (1, 0), "W": (0, -1), "E": (0, 1)}
Step = namedtuple("Step", "state reward done")
# %%
class Grid:
    def __init__(self, text):
        self.rows = [list(r) for r in text.split()]
        self.shape = len(self.rows), len(self.rows[0])
        self.state = (0, 0)

    def cell(self, state):
        r, c = state
        inside = 0 <= r < self.shape[0] and 0 <= c < self.shape[1]
        return self.rows[r][c] if inside else "#"

    def reset(self, state=(0, 0)):
        self.state = state
        return state

    def step(self, move):
        dr, dc = MOVES[move]
        wanted = self.state[0] + dr, self.state[1] + dc
        if self.cell(wanted) != "#":
            self.state = wanted
        done = self.cell(self.state) == "G"
        return Step(self.state, 10.0 if done else -1.0, done)

env = Grid(GRID)
env.shape
# %%
names = list(MOVES)
Q = np.zeros((*env.shape, len(MOVES)))
def schedule(start, end, n):
    return lambda t: max(end, start - (start - end) * t / n)

epsilon = schedule(1.0, 0.05, 150)
epsilon(75)
# %%
random.seed(0); rng = np.random.default_rng(0)
alpha, gamma = 0.5, 0.95
returns = []
# %%
for episode in range(300):
    state, total = env.reset(), 0
    for t in range(60):
        a = rng.integers(4) if rng.random() < epsilon(episode) else int(Q[state].argmax())
        nxt, reward, done = env.step(names[a])
        Q[state][a] += alpha * (reward + gamma * Q[nxt].max() * (not done) - Q[state][a])
        state, total = nxt, total + reward
        if done:
            break
    returns.append(total)
# %%
np.convolve(returns, np.ones(20) / 20, "valid")[[0, -1]]
# %%
ARROWS = dict(zip(names, "^v<>"))
def arrow(state):
    return env.cell(state) if env.cell(state) != "." else ARROWS[names[int(Q[state].argmax())]]
# %%
print("\n".join("".join(arrow((r, c)) for c in range(5)) for r in range(4)))
# %%
def play(start, steps=20):
    state, path = env.reset(start), [start]
    if env.cell(state) == "#":
        return {"error": "a wall"}
    for _ in range(steps):
        if env.cell(state) == "G":
            break
        state, reward, done = env.step(names[int(Q[state].argmax())])
        path.append(state)
    return {"path": path, "arrow": arrow(start), "value": round(float(Q[start].max()), 3), "there": env.cell(state) == "G"}
# %%
play((0, 0))
# %%
(returns[0], returns[-1])
# %%
epsilon = None
# %%
%%serve_handler grid --sample {"start": [0, 0]}
def predict(batch):
    return [play(tuple(row["start"]), row.get("steps", 20)) for row in batch]
