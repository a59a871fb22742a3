"""How hypothesis runs here: no deadline, as the machine is shared with a database."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quire", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("quire")
