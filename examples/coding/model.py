"""The model that the crew asks: whatever speaks OpenAI's chat API, by the environment.

`CODING_MODEL` is its name; `OPENAI_BASE_URL` says where it is, and `OPENAI_API_KEY` lets one in.
"""

import os

from pydantic_ai.exceptions import UserError
from pydantic_ai.models.openai import OpenAIChatModel

from hocket import Retry

PATIENCE = Retry(attempts_max=8, first_s=0.5, longest_s=120.0, never=(UserError,))
"""For handlers that ask it. What it has answered is not asked for again, and where there is no model, nobody waits."""


def chosen() -> OpenAIChatModel | None:
    """The one that is configured; None: none is, and whoever asks fails with that reason."""
    name = os.environ.get("CODING_MODEL")
    return OpenAIChatModel(name) if name else None
