# style: language
# about: a TorchServe handler: initialize(context), handle(data, context), rows as {"body": ...}
# insensitive: logger
# input: {"text": "good good bad"}
# input: {"text": ""}
# %%
import logging

logger = logging.getLogger("handler")
VOCABULARY = {"good": 1.0, "bad": -1.0}
# %%
def score(text):
    words = text.split()
    if not words:
        return 0.0
    return sum(VOCABULARY.get(word, 0.0) for word in words) / len(words)
# %%
%%serve_handler sentiment --sample {"text": "good good bad"}
class SentimentHandler:
    def __init__(self):
        self.initialized = False

    def initialize(self, context):
        self.labels = {True: "positive", False: "negative"}
        self.initialized = True
        logger.info("ready on %s", context.device)

    def handle(self, data, context):
        answers = []
        for row in data:
            body = row.get("data") or row.get("body")
            value = score(body["text"])
            answers.append({"label": self.labels[value > 0], "score": value, "ready": self.initialized})
        return answers
