"""Durable choreography for crews of AI agents: CloudEvents on NATS JetStream, exactly-once handling."""
