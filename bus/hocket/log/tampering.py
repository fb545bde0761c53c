"""Whether somebody has changed a stream or a consumer that is in use, behind its users' backs."""

from collections.abc import Mapping
from typing import Any

from hocket.log.topology import ConsumerSettings, Refuse, StreamSettings, plan, stream_settings

LOOK_S = 5.0
"""How often an owner looks. What is wrong is found within this and the time of two answers."""


def consumer_changed(answer: Mapping[str, Any], made: ConsumerSettings, received: int) -> str | None:
    """How a consumer differs from the one that was made; None: not at all.

    `received` is how many of its deliveries had come when the server was asked.
    """
    if "error" in answer:
        return str(answer["error"].get("description", "it cannot be read"))
    config, wanted = answer["config"], made.to_api()
    if "filter_subject" in config:
        config = {**config, "filter_subjects": [config["filter_subject"]]}
    for name in ("filter_subjects", "deliver_policy", "opt_start_seq", "ack_policy"):
        if config.get(name) != wanted[name]:
            return f"its {name} is {config.get(name)!r}, not {wanted[name]!r}"
    if answer.get("paused"):
        return "it is paused"
    if answer["delivered"]["consumer_seq"] < received:
        return f"it was reset: {answer['delivered']['consumer_seq']} deliveries, {received} have come"
    return None


def stream_broken(config: Mapping[str, Any] | None, domain: str, shard: int) -> str | None:
    """Which promise a stream does not keep any more; None: it keeps them all."""
    if config is None:
        return f"the stream of shard {shard} does not exist any more"
    current = StreamSettings.from_api(config)
    wanted = stream_settings(domain, shard, shards=current.shards, like=current)
    return next((str(change) for change in plan(current, wanted) if isinstance(change, Refuse)), None)


__all__ = ["LOOK_S", "consumer_changed", "stream_broken"]
