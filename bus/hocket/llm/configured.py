"""The model that the environment names, for services that ask whichever is configured."""

import os

from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from hocket.errors import UsageError

MODEL = "HOCKET_MODEL"
"""As pydantic-ai names models, `openai:gpt-5-mini`; with an address, as the endpoint there names it."""

URL = "HOCKET_MODEL_URL"
"""The address of an endpoint that speaks OpenAI's chat API, such as `http://127.0.0.1:11434/v1`."""

KEY = "HOCKET_MODEL_KEY"
"""The key for that endpoint, if it wants one."""


def name() -> str:
    """What the environment calls the model. Raises UsageError when it names none."""
    named = os.environ.get(MODEL)
    if not named:
        raise UsageError(f"no model is named: set {MODEL}")
    return named


def model() -> Model:
    """The model itself. Raises UsageError when none is named."""
    url = os.environ.get(URL)
    if not url:
        return infer_model(name())
    return OpenAIChatModel(name(), provider=OpenAIProvider(base_url=url, api_key=os.environ.get(KEY) or "none"))
