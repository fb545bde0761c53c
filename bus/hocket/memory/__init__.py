"""What agents know: facts as events of the log, a projection of them that can be asked, and what was said under a key.

`import hocket` does not load this package; SQLite is loaded by the first question.
"""

from hocket.memory.conversation import Conversation, History, Turn, summarise
from hocket.memory.facts import dispute, remember, retract, supersede
from hocket.memory.index import NoFullTextSearch
from hocket.memory.projection import Memory
from hocket.memory.question import AsOf, Position, Question, Recalled
from hocket_schemas.memory import Disputed, Remembered, Retracted, Summarised, Superseded

__all__ = [
    "remember",
    "supersede",
    "dispute",
    "retract",
    "Memory",
    "Recalled",
    "Question",
    "AsOf",
    "Position",
    "NoFullTextSearch",
    "Remembered",
    "Superseded",
    "Disputed",
    "Retracted",
    "Summarised",
    "Conversation",
    "History",
    "Turn",
    "summarise",
]
