# style: values
# about: a random forest, histogram boosting, nearest neighbours and k-means, each a value
# input: X[3].tolist()
# input: X[140].tolist()
# %%
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
# %%
X, y = load_iris(return_X_y=True)
models = {
    "forest": RandomForestClassifier(5, random_state=0).fit(X, y),
    "boosting": HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y),
    "neighbours": KNeighborsClassifier(3).fit(X, y),
}
clusters = KMeans(3, n_init=2, random_state=0).fit(X)
# %%
%%serve_handler iris --sample X[3].tolist()
class Vote:
    def inference(self, batch):
        rows = np.array(batch)
        votes = {name: model.predict(rows) for name, model in models.items()}
        return [{"votes": {n: int(v[i]) for n, v in votes.items()}, "cluster": int(clusters.predict(rows[i : i + 1])[0])} for i in range(len(rows))]
