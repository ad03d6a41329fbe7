# style: values
# about: a database connection inside a repository object
# expect: refused: predict -> store -> .connection
# %%
import sqlite3

class Store:
    def __init__(self):
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("create table t (x int)")

    def count(self):
        return self.connection.execute("select count(*) from t").fetchone()[0]

store = Store()
# %%
%%serve_handler store --sample 1
def predict(batch):
    return [store.count() for _ in batch]
