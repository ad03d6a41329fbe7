# style: language
# about: own exception classes, error groups, bad requests that must fail with the same words
# input: {"age": 30}
# input: {"age": -1}
# input: {"age": "old"}
# input: {}
# %%
from nbserve.errors import BadRequest

class Invalid(BadRequest):
    """A field that is wrong."""

    def __init__(self, field, why):
        super().__init__(f"{field}: {why}")
        self.field = field
# %%
class Internal(RuntimeError):
    code = 17
# %%
def check(row):
    if "age" not in row:
        raise Invalid("age", "is missing")
    age = row["age"]
    if not isinstance(age, int):
        try:
            int(age)
        except ValueError as error:
            raise Internal(f"cannot read {age!r}") from error
    if age < 0:
        raise Invalid("age", f"is {age}")
    return age
# %%
%%serve_handler ages --sample {"age": 30}
def predict(batch):
    return [check(row) + Internal.code for row in batch]
