"""What was said under a key as the messages that a model is shown."""

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

from hocket.memory.conversation import History


def message_history(history: History) -> list[ModelMessage]:
    """The `message_history` for `ask_model`; what was left out is said, so that the model does not take it for all."""
    messages: list[ModelMessage] = []
    if history.left_out:
        left = f"{len(history.left_out)} earlier messages of this conversation are left out."
        messages.append(ModelRequest(parts=[SystemPromptPart(content=left)]))
    for turn in history.turns:
        match turn.role:
            case "user":
                messages.append(ModelRequest(parts=[UserPromptPart(content=turn.text)]))
            case "assistant":
                messages.append(ModelResponse(parts=[TextPart(content=turn.text)]))
            case "summary":
                summary = f"Summary of {len(turn.of)} earlier messages: {turn.text}"
                messages.append(ModelRequest(parts=[SystemPromptPart(content=summary)]))
    return messages


__all__ = ["message_history"]
