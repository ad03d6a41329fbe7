"""Toy handlers, one for each rule of advice that a CPU can trigger; sources, as bundles are made of them.

Where a rule is about shares of time, the share is slept, or is the same work more often: so that one handler is above
the threshold, and its neighbour below it by less than a fifth.
"""

from __future__ import annotations

SLEEPS = """
import time


class Obedient:
    def preprocess(self, rows):
        time.sleep({preprocess_s})
        return rows

    def inference(self, rows):
        time.sleep({inference_s})
        return [1 for row in rows]

    def postprocess(self, answers):
        time.sleep({postprocess_s})
        return answers
"""

RANGES = """
import time
import torch


class Obedient:
    def inference(self, rows):
        with torch.profiler.record_function("model"):
            time.sleep({operator_s})
        time.sleep({python_s})
        return [1 for row in rows]
"""

LOOPS = """
import torch


class Obedient:
    '''Row by row, number by number: what a loop in a notebook looks like.'''

    def inference(self, rows):
        answers = []
        for row in rows:
            total = torch.zeros(())
            weights = [i * 0.5 for i in range(2000)]
            for i in range(2000):
                weights[i] = weights[i] * 1.01 + weights[i - 1]
            answers.append(float(total + sum(weights)) > 0)
        return answers
"""

THREADS = """
import torch


class Obedient:
    def inference(self, rows):
        torch.set_num_threads({threads})
        return [float(torch.ones(2, 2).sum()) for row in rows]
"""

ECHO = """
class Obedient:
    '''A row of numbers comes as JSON, and goes as JSON.'''

    def preprocess(self, rows):
        return [row.payload for row in rows]

    def inference(self, payloads):
        return payloads
"""

AGAIN = """
from nbserve.wire.codec import decode_body, encode_value


class Obedient:
    '''What a worker does to a body and an answer, with so many tenths of it more.'''

    def preprocess(self, rows):
        return [row.payload for row in rows]

    def inference(self, payloads):
        for payload in payloads:
            tenth = payload[: len(payload) // 10]
            for _ in range({tenths}):
                decode_body("application/json", encode_value(tenth)[0])
        return payloads
"""

PADS = """
import torch


class Obedient:
    '''Texts of different length, padded to the longest of their batch.'''

    def initialize(self, context):
        self.table = torch.nn.Embedding(128, 8)

    def preprocess(self, rows):
        texts = [row.payload.encode() for row in rows]
        longest = max(map(len, texts))
        return torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])

    def inference(self, batch):
        return self.table(batch).sum((1, 2)).tolist()
"""

ONE_IS_SLOW = """
import time


class Obedient:
    def initialize(self, context):
        self.pause_s = {slow_s} if context.worker == 1 else 0.020

    def inference(self, rows):
        time.sleep(self.pause_s)
        return [1 for row in rows]
"""

LARGE = """
class Obedient:
    def initialize(self, context):
        self.weights = bytearray(b"x") * 300_000_000

    def inference(self, rows):
        return [1 for row in rows]
"""
