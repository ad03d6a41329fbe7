# style: values
# about: a pipeline with transformers of the notebook: a class, a FunctionTransformer over a helper, a ColumnTransformer
# undetected: Interactions._sklearn_auto_wrap_output_keys
# insensitive: Interactions_sklearn_auto_wrap_output_keys
# input: [1.0, 2.0, 3.0]
# input: [5.0, -1.0, 0.5]
# unreached: Interactions.fit
# %%
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
# %%
CAP = 4.0

def capped(X):
    return np.minimum(X, CAP)
# %%
class Interactions(BaseEstimator, TransformerMixin):
    def __init__(self, degree=2):
        self.degree = degree

    def fit(self, X, y=None):
        self.means_ = X.mean(0)
        return self

    def transform(self, X):
        centred = X - self.means_
        return np.hstack([X, centred**self.degree])
# %%
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
y = X @ [1.0, -2.0, 0.5] + X[:, 0] ** 2
# %%
steps = [("cap", FunctionTransformer(capped)), ("cols", ColumnTransformer([("scale", MinMaxScaler(), [0, 1])], remainder="passthrough")),
         ("inter", Interactions()), ("ridge", Ridge(0.1))]
model = Pipeline(steps).fit(X, y)
# %%
%%serve_handler ridge --sample [1.0, 2.0, 3.0]
def predict(batch):
    return [{"y": round(float(v), 6), "alpha": model["ridge"].alpha} for v in model.predict(np.array(batch))]
