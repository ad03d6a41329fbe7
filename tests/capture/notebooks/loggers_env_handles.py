# style: ambient
# about: a logger with a level, an environment variable, chdir and sys.path edits, get_ipython in a helper, a print to stderr
# input: "a"
# input: "b"
# insensitive: log
# %%
import logging, os, sys
log = logging.getLogger("mine")
log.setLevel(logging.DEBUG)
os.environ["MODE"] = "fast"
os.makedirs("lib", exist_ok=True)
open("lib/tools_x.py", "w").write("def up(x):\n    return x.upper()\n")
sys.path.append("lib")
# %%
import tools_x
from tools_x import up as rise
# %%
def in_notebook():
    try:
        get_ipython
        return True
    except NameError:
        return False
# %%
%%serve_handler env --sample "a"
def predict(batch):
    log.debug("asked")
    print("x", file=sys.stderr)
    return [[rise(x), tools_x.up(x), os.environ["MODE"], os.environ.get("NOPE")] for x in batch]
