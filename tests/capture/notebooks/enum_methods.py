# style: language
# about: enums with data, methods, properties, auto() by own rule, aliases, nonmember, members as dict keys and defaults
# input: "RED"
# input: "BLUE"
# %%
import enum
class Auto(enum.Enum):
    @staticmethod
    def _generate_next_value_(name, start, count, last):
        return name.lower() * 2
class Colour(Auto):
    RED = enum.auto()
    BLUE = enum.auto()
    NAVY = BLUE
    @property
    def short(self):
        return self.value[0]
    @classmethod
    def default(cls):
        return cls.RED
# %%
class Planet(enum.Enum):
    EARTH = (5.9, 6.3)
    MARS = (0.6, 3.4)
    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius
    def gravity(self, g=GRAVITY if "GRAVITY" in globals() else 2.0):
        return self.mass / self.radius * g
# %%
class Op(enum.Enum):
    ADD = enum.member(lambda a, b: a + b)
    helper = enum.nonmember([1, 2])
    def __call__(self, a, b):
        return self.value(a, b)
names = {Colour.RED: "rot", Colour.NAVY: "blau"}
# %%
%%serve_handler colours --sample "RED"
def predict(batch):
    return [[names[Colour[x]], Colour[x].short, Colour.default() is Colour[x], Planet.MARS.gravity(), Op.ADD(1, 2), Op.helper] for x in batch]
