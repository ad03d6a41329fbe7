# style: values
# about: compiled patterns with flags, in tables with functions, templates and translation maps
# insensitive: TABLE
# input: "Call 555-1234 or mail Ann@Example.org, see #42"
# input: "nothing"
# %%
import re
import string
from textwrap import dedent

RULES = [
    (re.compile(r"(?P<user>\w+)@(?P<host>[\w.]+)", re.I), lambda m: f"{m['user'].lower()} at {m['host'].lower()}"),
    (re.compile(r"\d{3}-\d{4}"), "PHONE"),
    (re.compile(r"""\#(\d+)   # an issue""", re.VERBOSE), lambda m: f"issue {int(m.group(1)) + 1}"),
]
# %%
TABLE = str.maketrans({"ä": "ae", ",": None, ord("!"): "?"})
template = string.Template("$n rules, ${kind}")
note = dedent("""
    two
      lines
""")
# %%
def rewrite(text):
    hits = 0
    for pattern, replacement in RULES:
        text, n = pattern.subn(replacement, text)
        hits += n
    return text.translate(TABLE), hits
# %%
%%serve_handler rewrite --sample "Call 555-1234 or mail Ann@Example.org, see #42"
def predict(batch):
    return [[*rewrite(text), template.substitute(n=len(RULES), kind="x"), note] for text in batch]
