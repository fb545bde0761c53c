"""How asking a model can end otherwise than with an answer."""

from hocket.errors import UsageError


class UnknownPrice(UsageError):
    """A saga has a budget of cost, and nobody knows what the model costs; it was not asked.

    Say what it costs, by `Durable(estimate=Estimate(prices={name: Price(…)}))`; or have the budget bind tokens.
    """

    def __init__(self, model: str, saga: str) -> None:
        super().__init__(
            f"saga {saga} has a budget of cost, and it is not known what model {model!r} costs; "
            "name its price, or budget tokens"
        )
        self.model = model
        self.saga = saga


__all__ = ["UnknownPrice"]
