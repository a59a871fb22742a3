"""Retention: drops archived months from the database once the policy no longer keeps them."""
