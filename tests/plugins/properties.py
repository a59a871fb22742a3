"""How hypothesis runs here: no deadline, as the machine is shared with a database."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quire", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# For `make test-quick`, which names it on the command line of pytest.
settings.register_profile("quick", settings.get_profile("quire"), max_examples=10)
settings.load_profile("quire")
