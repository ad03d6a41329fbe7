"""A workload on LitServe. Answers POST /predict."""

from typing import Any

import arguments
import handlers
import litserve

ASKED = arguments.parse()


class Api(litserve.LitAPI):
    """Batches are lists: nothing is stacked before the model does it."""

    def setup(self, device: str) -> None:
        """In the inference process."""
        self.run = handlers.make(ASKED.workload, ASKED.threads)

    def decode_request(self, request):  # LitServe makes a query parameter of any annotation but its own
        """JSON was decoded by LitServe."""
        return request

    def batch(self, inputs: list[Any]) -> list[Any]:
        """As it is."""
        return list(inputs)

    def predict(self, inputs: list[Any]) -> list[Any]:
        """One batch."""
        return self.run(inputs)

    def unbatch(self, output: list[Any]) -> list[Any]:
        """As it is."""
        return list(output)

    def encode_response(self, output: Any) -> Any:
        """JSON is encoded by LitServe."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=ASKED.max_batch_size, batch_timeout=ASKED.wait_ms / 1e3)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=ASKED.workers, fast_queue=True)
    server.run(host="127.0.0.1", port=ASKED.port, generate_client_file=False, log_level="warning")
