# style: language
# about: methods, properties and attributes set on a class and on an instance after the class statement
# input: 3
# input: 0
# unreached: Meter.read
# %%
class Meter:
    unit = "m"

    def __init__(self, scale):
        self.scale = scale

    def read(self, x):
        return x * self.scale

    def show(self, x):
        return f"{self.read(x)} {self.unit}"
# %%
meter = Meter(2)
# %%
def read_checked(self, x):
    if x < 1:
        return 0
    return x * self.scale + 0.5

Meter.read = read_checked
Meter.unit = "cm"
Meter.limits = {"low": 1, "high": 9}
# %%
Meter.high = property(lambda self: self.limits["high"])
Meter.parse = staticmethod(lambda text: int(text.split()[0]))
Meter.double = classmethod(lambda cls, x: cls(2).read(x))
# %%
meter.extra = [1, 2]
meter.greet = lambda name: "hello " + name
# %%
%%serve_handler meter --sample 3
def predict(batch):
    return [[meter.show(x), meter.high, meter.limits, Meter.parse("7 cm"), Meter.double(x), meter.extra, meter.greet("you")] for x in batch]
