"""Agents with models: a pydantic-ai agent asked within a handler, so that what a model has answered is paid for once.

Needs the extra `hocket[llm]`. Nothing else of hocket knows this package.
"""

from hocket.llm.asking import ask_model, iter_model, stream_model
from hocket.llm.conversing import message_history
from hocket.llm.durability import Approvals, Durable
from hocket.llm.effects import effect_tool
from hocket.llm.hooks import Guarded
from hocket.llm.lineage import Keep
from hocket.llm.prompts import Choice, Passage, Template, found
from hocket.llm.spending import Estimate, Price

__all__ = [
    "ask_model",
    "iter_model",
    "stream_model",
    "effect_tool",
    "message_history",
    "Durable",
    "Approvals",
    "Template",
    "Passage",
    "Choice",
    "found",
    "Keep",
    "Estimate",
    "Guarded",
    "Price",
]
