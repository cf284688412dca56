"""A language model to ask: Ollama, any OpenAI-compatible server, a checkpoint of our own, or a script.

Each is called with messages, `[{"role": "user", "content": ...}]`, and returns the reply's text, whole, or raises
ServerError. `Cached` keeps the replies in a file, `Recorded` answers from such a file without any server, and
`Bounded` ends a run at so many calls or so much money.
"""

from gptlab.servers.bounded import Bounded, BudgetSpent
from gptlab.servers.cache import Cached, NotRecorded, Recorded
from gptlab.servers.local import LocalModel
from gptlab.servers.ollama_server import OllamaServer
from gptlab.servers.openai_server import OpenAIServer
from gptlab.servers.protocol import Reply, Server, ServerError, with_options
from gptlab.servers.scripted import Scripted

__all__ = [
    "Bounded",
    "BudgetSpent",
    "Cached",
    "LocalModel",
    "NotRecorded",
    "OllamaServer",
    "OpenAIServer",
    "Recorded",
    "Reply",
    "Scripted",
    "Server",
    "ServerError",
    "with_options",
]
