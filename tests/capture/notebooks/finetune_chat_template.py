# style: fine-tuning
# about: a tokenizer trained in the notebook with a chat template, prompts by jinja2 and apply_chat_template, a small GPT-2 with a generation loop of one's own and stop words
# input: {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5}
# input: {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "how are you"}, {"role": "assistant", "content": "fine"}, {"role": "user", "content": "good"}]}
# input: {"prompt": "hello", "temperature": 0.8, "max_tokens": 4}
# insensitive: STOP, DEFAULTS, special
# undetected: special
# %%
import jinja2
import torch
import transformers
transformers.logging.set_verbosity_error()
# %%
corpus = ["hello there how are you", "i am fine thanks", "be brief and be good", "good morning to you", "how is the weather", "the weather is good"] * 4
# %%
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
special = ["<pad>", "<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
raw = Tokenizer(models.BPE(unk_token="<unk>"))
raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
raw.decoder = decoders.ByteLevel()
# %%
raw.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
raw.get_vocab_size()
# %%
from transformers import PreTrainedTokenizerFast
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>", padding_side="left")
# %%
tokenizer.chat_template = """{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{% if not loop.last %}
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
print(tokenizer.apply_chat_template([{"role": "user", "content": " hi "}], tokenize=False, add_generation_prompt=True))
# %%
from transformers import GPT2Config, GPT2LMHeadModel
torch.manual_seed(1)
lm = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=24, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=3))
# %%
opt = torch.optim.Adam(lm.parameters(), lr=3e-3)
lm.train()
for step in range(6):
    enc = tokenizer(corpus[:8], return_tensors="pt", padding=True, return_token_type_ids=False)
    loss = lm(**enc, labels=enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)).loss
    loss.backward(); opt.step(); opt.zero_grad()
lm.eval();
# %%
env = jinja2.Environment(trim_blocks=True)
template = "Question: {{ question | upper }}\n{% if hints %}{{ hints | join(', ') }}\n{% endif %}Answer:"
def render(question, hints=()):
    return env.from_string(template).render(question=question, hints=hints)
# %%
render("hello", ["a", "b"])
# %%
STOP = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")}
DEFAULTS = {"max_tokens": 6, "temperature": 0.0}
# %%
@torch.no_grad()
def generate(text, max_tokens, temperature):
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    past, out = None, []
    for _ in range(max_tokens):
        step = lm(ids, past_key_values=past, use_cache=True)
        past, logits = step.past_key_values, step.logits[0, -1]
        if temperature:
            token = int(torch.multinomial((logits / temperature).softmax(-1), 1))
        else:
            token = int(logits.argmax())
        out.append(token)
        ids = torch.tensor([[token]])
    return [t for t in out if t not in STOP]
# %%
tokenizer.decode(generate("hello", 4, 0.0))
# %%
def prompt_of(row):
    if "messages" in row:
        return tokenizer.apply_chat_template(row["messages"], tokenize=False, add_generation_prompt=True)
    return render(row["prompt"], row.get("hints", ()))
# %%
%%serve_handler chat --sample {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5}
def predict(batch):
    out = []
    for row in batch:
        asked = {**DEFAULTS, **dict(row)}
        text = prompt_of(row)
        tokens = generate(text, asked["max_tokens"], asked["temperature"])
        out.append({"prompt": text, "tokens": tokens, "text": tokenizer.decode(tokens, skip_special_tokens=True)})
    return out
