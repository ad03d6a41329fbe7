# style: ambient
# about: a handler that asks get_ipython
# input: "a"
# input: "b"
# %%
def width():
    try:
        return len(get_ipython().user_ns) < 0
    except NameError:
        return False
# %%
%%serve_handler env --sample "a"
def predict(batch):
    return [[x, width()] for x in batch]
