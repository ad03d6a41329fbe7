# style: language
# about: a chain of classes over five cells, mixins, super() in each, attributes from every level
# input: [1.0, 2.0]
# input: [5.0]
# %%
from nbserve import Handler

class Logs:
    def note(self, text):
        self.notes = [*getattr(self, "notes", []), text]
# %%
class Base(Handler):
    scale = 2

    def initialize(self, context):
        self.offset = 1
        self.steps = ["base"]

    def preprocess(self, rows):
        return [list(row.payload) for row in rows]
# %%
class Scaled(Base):
    def initialize(self, context):
        super().initialize(context)
        self.steps.append("scaled")

    def inference(self, batch):
        return [[x * self.scale + self.offset for x in row] for row in batch]
# %%
class Clipped(Logs, Scaled):
    limit = 7

    def initialize(self, context):
        super().initialize(context)
        self.steps.append("clipped")
        self.note("ready")
# %%
Base.scale = 3
# %%
%%serve_handler chain --sample [1.0, 2.0] --handler Final
class Final(Clipped):
    def inference(self, batch):
        return [[min(x, self.limit) for x in row] for row in super().inference(batch)]

    def postprocess(self, outputs):
        return [{"y": y, "steps": self.steps, "notes": self.notes, "mro": [c.__name__ for c in type(self).__mro__[:5]]} for y in outputs]
