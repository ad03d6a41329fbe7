# style: homework
# about: graph classes with operators and iterators, A* with heapq, a puzzle grid as text, exercises in one class over three cells
# undetected: Callable, Iterator, Point
# input: {"start": [0, 0], "goal": [3, 4]}
# input: {"start": [0, 0], "goal": [1, 1]}
# unreached: Search.neighbours, Grid.parse, Grid.__iter__, Grid.__iter__.<locals>.<genexpr>
# %%
from __future__ import annotations
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
# %%
GRID = """
.....
.###.
...#.
##...
"""
# %%
Point = tuple[int, int]
# %%
@dataclass(frozen=True)
class Grid:
    rows: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Grid:
        return cls(tuple(text.split()))

    def __contains__(self, p: Point) -> bool:
        r, c = p
        return 0 <= r < len(self.rows) and 0 <= c < len(self.rows[0]) and self.rows[r][c] == "."

    def __iter__(self) -> Iterator[Point]:
        return ((r, c) for r, row in enumerate(self.rows) for c, _ in enumerate(row))
# %%
grid = Grid.parse(GRID)
sum(p in grid for p in grid)
# %%
# Exercise 1
class Search:
    def __init__(self, grid: Grid, h: Callable[[Point, Point], int]):
        self.grid, self.h, self.expanded = grid, h, 0

    def neighbours(self, p):
        raise NotImplementedError
# %% fails
Search(grid, None).neighbours((0, 0))
# %%
def neighbours(self: Search, p: Point) -> list[Point]:
    r, c = p
    return [q for q in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)) if q in self.grid]
Search.neighbours = neighbours
# %%
assert Search(grid, None).neighbours((0, 0)) == [(1, 0), (0, 1)]
# %%
# Exercise 2
def manhattan(a: Point, b: Point) -> int:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])
# %%
def astar(self, start, goal):
    best = {start: 0}
    came: dict[Point, Point] = {}
    queue = [(self.h(start, goal), start)]
    while queue:
        _, p = heapq.heappop(queue)
        self.expanded += 1
        if p == goal:
            path = [p]
            while path[-1] in came:
                path.append(came[path[-1]])
            return path[::-1]
        for q in self.neighbours(p):
            if best[p] + 1 < best.get(q, 1 << 30):
                best[q], came[q] = best[p] + 1, p
                heapq.heappush(queue, (best[q] + self.h(q, goal), q))
    return None
# %%
setattr(Search, "astar", astar)
# %%
search = Search(grid, manhattan)
len(search.astar((0, 0), (3, 4)))
# %%
render = lambda path: "\n".join("".join("*" if (r, c) in path else ch for c, ch in enumerate(row)) for r, row in enumerate(grid.rows))
# %%
print(render(search.astar((0, 0), (3, 4))))
# %%
%%serve_handler path --sample {"start": [0, 0], "goal": [3, 4]}
def predict(batch):
    answers = []
    for row in batch:
        s = Search(search.grid, search.h)
        path = s.astar(tuple(row["start"]), tuple(row["goal"]))
        answers.append({"path": path, "map": render(path) if path else None, "n": s.expanded, "before": search.expanded})
    return answers
