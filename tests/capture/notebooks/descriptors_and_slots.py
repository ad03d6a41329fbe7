# style: language
# about: properties with setters, a descriptor class, slots, class and static methods, operators
# input: [3, 4]
# input: [-1, 0]
# %%
class Positive:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, instance, owner):
        return self if instance is None else getattr(instance, self.name)

    def __set__(self, instance, value):
        if value < 0:
            raise ValueError(f"{self.name[1:]} is {value}")
        setattr(instance, self.name, value)
# %%
class Vector:
    __slots__ = ("_x", "_y")
    x = Positive()
    y = Positive()
    made = 0

    def __init__(self, x, y):
        self.x, self.y = x, y
        type(self).made += 0

    @classmethod
    def of(cls, pair):
        return cls(*pair)

    @staticmethod
    def norm(x, y):
        return (x * x + y * y) ** 0.5

    @property
    def length(self):
        return Vector.norm(self.x, self.y)

    @length.setter
    def length(self, value):
        ratio = value / self.length
        self.x, self.y = self.x * ratio, self.y * ratio

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))

    def __getitem__(self, index):
        return (self.x, self.y)[index]
# %%
unit = Vector(1, 1)
names = {Vector(3, 4): "pythagoras", unit: "unit"}
# %%
%%serve_handler vectors --sample [3, 4]
def predict(batch):
    answers = []
    for pair in batch:
        vector = Vector.of(pair)
        total = vector + unit
        total.length = 10
        answers.append({"n": vector.length, "sum": [total[0], total[1]], "name": names.get(vector, "?")})
    return answers
