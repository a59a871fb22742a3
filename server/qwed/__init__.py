"""QWED's audit routes, answered from the trail."""
