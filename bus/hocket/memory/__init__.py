"""What agents know: facts as events of the log, and a projection of them that can be asked.

`import hocket` does not load this package; SQLite is loaded by the first question.
"""

from hocket.memory.facts import dispute, remember, retract, supersede
from hocket.memory.index import NoFullTextSearch
from hocket.memory.projection import Memory
from hocket.memory.question import AsOf, Position, Question, Recalled

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
]
