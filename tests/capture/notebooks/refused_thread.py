# style: values
# about: a thread of the notebook takes from a queue: workers would wait for it for ever
# expect: refused: a thread of the notebook waits for it
# %%
import queue
import threading

tasks = queue.Queue()
done = {}

def consume():
    while True:
        key, event = tasks.get()
        done[key] = key * 2
        event.set()

threading.Thread(target=consume, daemon=True).start()
# %%
def ask(key):
    event = threading.Event()
    tasks.put((key, event))
    event.wait(5)
    return done[key]

ask(1)
# %%
%%serve_handler consumed --sample 1
def predict(batch):
    return [ask(x) for x in batch]
