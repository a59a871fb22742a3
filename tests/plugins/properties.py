"""The settings of hypothesis: no deadline, as a database shares the machine."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quire", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# For `make test-quick`, which names this profile on pytest's command line.
settings.register_profile("quick", settings.get_profile("quire"), max_examples=10)
settings.load_profile("quire")
