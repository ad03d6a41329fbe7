# style: language
# about: Enum, IntEnum, StrEnum and Flag with methods, as keys, as defaults, in containers
# input: {"grade": "B", "perms": 3}
# input: {"grade": "Z", "perms": 4}
# %%
from enum import Enum, Flag, IntEnum, StrEnum, auto, unique
# %%
@unique
class Grade(Enum):
    A = 90
    B = 75
    C = 50

    @classmethod
    def _missing_(cls, value):
        return cls.C

    @property
    def passed(self):
        return self.value >= 75
# %%
class Level(IntEnum):
    LOW = auto()
    HIGH = auto()

class Colour(StrEnum):
    RED = auto()
    GREEN = auto()

class Perm(Flag):
    READ = auto()
    WRITE = auto()
    RUN = auto()
# %%
colours = {Grade.A: Colour.GREEN, Grade.B: Colour.GREEN, Grade.C: Colour.RED}
allowed = Perm.READ | Perm.WRITE
levels = [Level.HIGH, Level.LOW]
# %%
def rank(grade, base=Level.HIGH):
    return base + (1 if grade.passed else 0)
# %%
%%serve_handler grades --sample {"grade": "B", "perms": 3}
def predict(batch):
    answers = []
    for row in batch:
        grade = Grade[row["grade"]] if row["grade"] in Grade.__members__ else Grade(row["grade"])
        answers.append({"colour": colours[grade], "rank": rank(grade), "ok": bool(Perm(row["perms"]) & allowed),
                        "levels": [int(level) for level in levels], "names": [g.name for g in Grade]})
    return answers
