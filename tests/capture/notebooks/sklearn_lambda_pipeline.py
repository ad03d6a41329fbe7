# style: kaggle
# unreached: Clip.fit
# about: a pipeline of a FunctionTransformer with a lambda, one with a cell's function, an own transformer with set_output, a ColumnTransformer
# input: {"a": 1.0, "b": "x"}
# input: {"a": -2.0, "b": "z"}
# undetected: Clip._sklearn_auto_wrap_output_keys
# insensitive: Clip_sklearn_auto_wrap_output_keys
# %%
import numpy as np, pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, FeatureUnion
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
df = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": list("xyxy")})
y = [0, 1, 0, 1]
# %%
class Clip(BaseEstimator, TransformerMixin):
    def __init__(self, q=0.9):
        self.q = q
    def fit(self, X, y=None):
        self.top_ = np.quantile(X, self.q)
        return self
    def transform(self, X):
        return np.minimum(X, self.top_)
def squared(X):
    return np.asarray(X) ** 2
# %%
numbers = Pipeline([("clip", Clip()), ("both", FeatureUnion([("sq", FunctionTransformer(squared)), ("lam", FunctionTransformer(lambda X: np.asarray(X) + 1))])), ("scale", StandardScaler())])
pre = ColumnTransformer([("n", numbers, ["a"]), ("c", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude=np.number))])
clf = make_pipeline(pre, LogisticRegression()).fit(df, y)
# %%
%%serve_handler piped --sample {"a": 1.0, "b": "x"}
def predict(batch):
    return clf.predict_proba(pd.DataFrame(batch)).round(6).tolist()
