# style: language
# about: NamedTuple classes with methods and defaults, collections.namedtuple, instances of both as data
# input: [1, 1]
# input: [9, 9]
# %%
from collections import namedtuple
from typing import NamedTuple
# %%
class Point(NamedTuple):
    x: float
    y: float = 0.0

    def distance(self, other: "Point") -> float:
        return abs(self.x - other.x) + abs(self.y - other.y)
# %%
City = namedtuple("City", "name place people", defaults=[0])
# %%
cities = [City("north", Point(0, 5), 120), City("south", Point(0, -5)), City("far", Point(50, 50), 7)]
origin = Point(0)
# %%
%%serve_handler nearest --sample [1, 1]
def predict(batch):
    answers = []
    for x, y in batch:
        here = Point(x, y)
        city = min(cities, key=lambda c: c.place.distance(here))
        answers.append({"city": city._asdict(), "home": here.distance(origin), "fields": City._fields})
    return answers
