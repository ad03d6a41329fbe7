# style: values
# about: an open file that the handler reads from
# expect: refused: predict -> lines
# %%
with open("words.txt", "w") as out:
    out.write("one\ntwo\n")

lines = open("words.txt")
# %%
%%serve_handler lines --sample 1
def predict(batch):
    return [lines.readline() for _ in batch]
