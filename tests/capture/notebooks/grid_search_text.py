# style: kaggle
# about: a grid search whose best estimator is served, label names from a dict, a custom scorer left behind
# input: "the striker scored a late goal"
# input: "parliament passed the budget"
# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
# %%
docs = ["goal scored in the match", "the striker won the cup", "late goal wins the league", "coach praises the striker"] * 2
docs += ["parliament votes on budget", "minister resigns", "the budget passed", "election for parliament"] * 2
y = ["sport"] * 8 + ["politics"] * 8
# %%
names = {"sport": "Sport", "politics": "Politik"}
# %%
pipe = Pipeline([("tfidf", TfidfVectorizer(stop_words="english")), ("lr", LogisticRegression(max_iter=200))])
grid = {"lr__C": [0.1, 10.0], "tfidf__ngram_range": [(1, 1), (1, 2)]}
# %%
def macro(y_true, y_pred):
    return f1_score(y_true, y_pred, average="macro")
# %%
search = GridSearchCV(pipe, grid, scoring=make_scorer(macro), cv=2).fit(docs, y)
# %%
best = search.best_estimator_
params = search.best_params_
# %%
def top_words(text, k=2):
    vec, lr = best["tfidf"], best["lr"]
    row = vec.transform([text])
    weights = row.multiply(lr.coef_[0]).toarray()[0]
    words = vec.get_feature_names_out()
    return [str(words[i]) for i in abs(weights).argsort()[::-1][:k] if weights[i]]
# %%
%%serve_handler topics --sample "the striker scored a late goal"
def predict(batch):
    return [{"topic": names[l], "c": params["lr__C"], "words": top_words(t)} for t, l in zip(batch, best.predict(batch))]
