# style: kaggle
# about: spam in short messages: a text pipeline with stemming by hand, vectorizer, chi2 selection, a linear SVM and a threshold
# insensitive: threshold
# input: "URGENT! You have WON a 1000 prize, call 0900"
# input: "meeting walked at home :)"
# %%
import re
import numpy as np
import pandas as pd
# %%
ham = ["see you at home", "are we meeting tonight", "ok thanks", "call me when home", "lunch tomorrow with mum", "the train was late again"]
spam_ = ["win cash now call 0900", "urgent you have won a prize", "free entry text win to 8080", "claim your free ringtone call now", "winner winner claim 1000 cash"]
df = pd.DataFrame({"text": ham + spam_, "label": [0] * len(ham) + [1] * len(spam_)})
df["label"].value_counts(normalize=True)
# %%
df["length"] = df.text.str.len()
df.groupby("label").length.mean()
# %%
SUFFIXES = ("ing", "ed", "s")
def stem(w):
    for s in SUFFIXES:
        if w.endswith(s) and len(w) > len(s) + 2:
            return w[: -len(s)]
    return w
# %%
EMOTICONS = {":)": " emo_smile ", ":(": " emo_sad "}
def normalise(t):
    for k, v in EMOTICONS.items():
        t = t.replace(k, v)
    t = re.sub(r"\d+", " number ", t.lower())
    return " ".join(stem(w) for w in re.findall(r"[a-z_]+", t))
# %%
normalise("Calling 0900 wins :)")
# %%
df["clean"] = df.text.map(normalise)
# %%
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.svm import LinearSVC
from sklearn.pipeline import Pipeline, FeatureUnion
# %%
vec = CountVectorizer(ngram_range=(1, 2), min_df=1)
# %%
words = Pipeline([("count", vec), ("tfidf", TfidfTransformer(sublinear_tf=True)), ("best", SelectKBest(chi2, k=20))])
chars = CountVectorizer(analyzer="char_wb", ngram_range=(2, 3), max_features=30)
# %%
features = FeatureUnion([("words", words), ("chars", chars)])
# %%
clf = Pipeline([("features", features), ("svm", LinearSVC(C=1.0, random_state=0))]).fit(df.clean, df.label)
# %%
margin = clf.decision_function(df.clean)
threshold = float((margin[df.label == 0].max() + margin[df.label == 1].min()) / 2)
# %%
confusion = pd.crosstab(df.label, (margin > threshold).astype(int))
confusion
# %%
def explain(text):
    vocabulary = vec.vocabulary_
    return sorted((w for w in normalise(text).split() if w in vocabulary), key=lambda w: vocabulary[w])[:3]
# %%
%%serve_handler sms --sample "URGENT! You have WON a 1000 prize, call 0900"
def predict(batch):
    m = clf.decision_function([normalise(t) for t in batch])
    return [{"spam": bool(v > threshold), "margin": round(float(v), 5), "words": explain(t)} for t, v in zip(batch, m)]
