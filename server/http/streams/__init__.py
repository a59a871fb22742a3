"""Answers that last: made while they are sent, or as events, and how many an org may have."""
