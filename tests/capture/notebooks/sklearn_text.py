# style: values
# about: TF-IDF with a tokenizer of the notebook, a hashing vectorizer and a naive Bayes classifier
# insensitive: hashed
# input: "win a free prize now"
# input: "see you at lunch tomorrow"
# %%
import re

from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline
# %%
PATTERN = re.compile(r"[a-z']+")

def words(text):
    return PATTERN.findall(text.lower())
# %%
texts = ["free prize inside", "win money now", "free free win", "lunch at noon", "see you tomorrow", "meeting notes for you"]
labels = ["spam"] * 3 + ["ham"] * 3
# %%
spam = Pipeline([("tfidf", TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2))), ("nb", MultinomialNB(alpha=0.5))]).fit(texts, labels)
hashed = HashingVectorizer(n_features=8, alternate_sign=False)
# %%
%%serve_handler spam --sample "win a free prize now"
def predict(batch):
    return [{"label": str(l), "p": p.tolist(), "hash": hashed.transform([t]).toarray()[0].tolist()} for t, l, p in zip(batch, spam.predict(batch), spam.predict_proba(batch))]
