"""What looks like a secret, what does not, and where it is said to be."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbserve.bundle.secrets import Finding, in_data, in_json, in_python, looks_random, names_a_secret

# Put together here, so that this file holds nothing that a scanner of repositories would find.
LETTERS = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ2bC4eF6hJ8"
TOKENS = {
    "AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "Hugging Face token": "hf_" + LETTERS[:34],
    "API key (sk-...)": "sk-" + LETTERS[:24],
    "GitHub token": "ghp_" + LETTERS,
    "GitLab token": "glpat-" + LETTERS[:20],
    "Slack token": "xoxb-" + LETTERS[:20],
    "Google API key": "AIza" + LETTERS[:35],
    "Stripe key": "sk_live_" + LETTERS[:24],
    "SendGrid key": "SG." + LETTERS[:22] + "." + (LETTERS * 2)[:43],
    "npm token": "npm_" + LETTERS,
    "JSON web token": "eyJ" + LETTERS[:20] + ".eyJ" + LETTERS[:20] + "." + LETTERS[:20],
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE",
    "password in a URL": "postgres://user:" + "hunter2" + "@db.example/x",
}
RANDOM = "9f3Kd8-Qz1LmXw7"


def where(line: int) -> str:
    return f"In[4], line {line}"


@pytest.mark.parametrize("kind", TOKENS)
def test_known_tokens_wherever_they_stand(kind: str) -> None:
    token = TOKENS[kind]
    assert in_python(f"x = {token!r}\n", "handler.py", where) == [Finding("x", kind, "In[4], line 1")]
    assert in_python(f"def f():\n    call({token!r})\n", "handler.py", where)[0].where == "In[4], line 2"
    assert in_json({"rows": [1, {"a": token}]}, "v", "the value v") == [Finding("a", kind, "the value v")]
    assert in_data(b"\xff\x00" + token.encode(), "vocab.txt") == [Finding("vocab.txt", kind, "vocab.txt")]
    comment = token.splitlines()[0]
    assert in_python(f"x = 1\n# old: {comment}\n", "a.py", where) == [Finding("a.py:2", kind, "In[4], line 2")]


@pytest.mark.parametrize(
    "source",
    [
        f"db_password = {RANDOM!r}",
        f"apiKey: str = {RANDOM!r}",
        f"connect(host, password={RANDOM!r})",
        f"settings = {{'user': 'x', 'auth_token': {RANDOM!r}}}",
        f"class A:\n    secret = {RANDOM!r}",
        f"def f(token={RANDOM!r}): pass",
        f"def f(*, token={RANDOM!r}): pass",
        f"self.token = {RANDOM!r}",
        f"os.environ['API_TOKEN'] = {RANDOM!r}",
        f"if token == {RANDOM!r}: pass",
        f"password = {RANDOM.encode()!r}",
        f"x = (token := {RANDOM!r})",
        f"headers = {{'token': f'{RANDOM}{{x}}'}}",
    ],
)
def test_a_random_string_bound_to_a_telling_name(source: str) -> None:
    (found,) = in_python(source, "handler.py", where)
    assert found.kind == "secret by its name"
    assert found.name in source


@pytest.mark.parametrize(
    "source",
    [
        "pad_token = '[PAD]'",
        "eos_token = '<|endoftext|>'",
        "token = 'cls'",
        "auth_token = 'classification'",
        "tokenizer = 'sentence-transformers/all-MiniLM-L6-v2'",
        "password = os.environ['DB_PASSWORD']",
        "password = 'changeme'",
        "secret = 'a long text with blanks 12345'",
        f"digest = {RANDOM!r}",
        "sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
        "url = 'https://example.com/a:b@c'",
        "dsn = f'postgres://{user}:{password}@{host}/x'",
        "def tokens(): return ['Ab1', 'Cd2']",
        "'''Docs: set `password` to what you like.'''",
    ],
)
def test_what_is_no_secret(source: str) -> None:
    assert in_python(source, "handler.py", where) == []


@pytest.mark.parametrize(
    "name", ["password", "dbPassword", "HF_TOKEN", "api_key", "client_secret", "aws_secret_access_key"]
)
def test_names_of_secrets(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize(
    "name", ["tokenizer", "tokens", "n_tokens", "key", "keys", "secretary", "password_field", "", "x"]
)
def test_other_names(name: str) -> None:
    assert not names_a_secret(name)


@given(st.integers())
def test_random_strings_look_random(seed: int) -> None:
    chooser = random.Random(seed)
    token = "".join(chooser.choices(string.ascii_letters + string.digits, k=32))
    assert looks_random(token)


@given(st.text(alphabet="ab", max_size=40) | st.text(max_size=7) | st.from_regex(r"<[^\n]*>", fullmatch=True))
def test_short_dull_and_bracketed_strings_do_not(text: str) -> None:
    assert not looks_random(text)


def test_pairs_of_a_dict_with_odd_keys_and_states_keep_their_names() -> None:
    tree = {"$": "dict", "v": [["api_key", RANDOM], [1, "x"]]}
    assert in_json(tree, "config", "w") == [Finding("api_key", "secret by its name", "w")]
    state = {"$": "object", "class": "handler:Client", "state": {"token": RANDOM}}
    assert in_json(state, "client", "w") == [Finding("token", "secret by its name", "w")]
    assert in_json(RANDOM, "password", "w") == [Finding("password", "secret by its name", "w")]
    assert in_json([RANDOM], "labels", "w") == []


def test_a_secret_is_never_in_what_is_said() -> None:
    for finding in in_python(f"password = {RANDOM!r}\nx = {TOKENS['GitHub token']!r}\n", "handler.py", where):
        assert RANDOM not in str(finding)
        assert LETTERS not in str(finding)
