"""The processes beside the workers: how they are started, followed and stopped."""
