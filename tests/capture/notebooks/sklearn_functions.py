# style: values
# about: FunctionTransformers over functions of the notebook, a FeatureUnion, a pipeline with named steps changed by set_params, a voting ensemble
# input: [5.1, 3.5, 1.4, 0.2]
# input: [6.7, 3.0, 5.2, 2.3]
# input: [5.9, 2.7, 4.1, 1.0]
# %%
import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
# %%
iris = load_iris()
X, y = iris.data, iris.target
# %%
def ratios(x):
    return np.column_stack([x[:, 0] / x[:, 1], x[:, 2] / (x[:, 3] + OFFSET)])
OFFSET = 0.5
# %%
def keep(x, columns=(0, 2)):
    return x[:, list(columns)]
# %%
features = FeatureUnion([("ratios", FunctionTransformer(ratios)), ("raw", FunctionTransformer(keep, kw_args={"columns": (2, 3)}))])
pipe = Pipeline([("features", features), ("scale", StandardScaler()), ("model", LogisticRegression(max_iter=300))])
# %%
pipe.set_params(model__C=0.5, scale__with_mean=True)
pipe.fit(X, y)
# %%
vote = VotingClassifier([("pipe", pipe), ("bayes", GaussianNB()), ("near", KNeighborsClassifier(5))], voting="soft", weights=[2, 1, 1]).fit(X, y)
# %%
names = dict(enumerate(iris.target_names.tolist()))
# %%
%%serve_handler iris --sample [5.1, 3.5, 1.4, 0.2]
class Iris:
    def preprocess(self, rows):
        return np.array([row.payload for row in rows])
    def inference(self, x):
        return vote.predict_proba(x), pipe.named_steps["features"].transform(x)
    def postprocess(self, found):
        return [{"label": names[int(p.argmax())], "p": p.round(6).tolist(), "f": f.round(6).tolist()} for p, f in zip(*found)]
