"""`quire orgs`."""

from server.cli.base.lazy import LazyGroup
from server.feature import Command

orgs = LazyGroup(
    "orgs",
    lazy={
        "create": Command("server.cli.trails.orgs:create", "Create an org."),
        "list": Command("server.cli.trails.orgs:list_orgs", "List all orgs."),
        "show": Command(
            "server.cli.trails.orgs:show", "Show an org, its head, and the reason if it is frozen."
        ),
        "rename": Command("server.cli.trails.orgs:rename", "Change the name of an org."),
        "quota": Command(
            "server.cli.trails.orgs:quota", "Set how much may be appended to an org in a day."
        ),
        "key-age": Command(
            "server.cli.trails.orgs:key_age",
            "Set the age from which API keys should be rotated.",
        ),
        "limits": Command(
            "server.cli.trails.limits:limits", "Show or change the rate limits of an org."
        ),
        "events": Command(
            "server.cli.trails.oversight:events", "List the security events of an org."
        ),
        "acknowledge": Command(
            "server.cli.trails.oversight:acknowledge",
            "State that a security event was dealt with.",
        ),
        "review": Command(
            "server.cli.trails.oversight:review", "State that you reviewed the trail of some days."
        ),
        "thaw": Command("server.cli.trails.orgs:thaw", "Let a frozen org accept entries again."),
        "adopt": Command(
            "server.cli.trails.adopting:adopt",
            "Take an org's row in the database for its newest, on the server's machine.",
        ),
        "accept-loss": Command(
            "server.cli.trails.accept_loss:accept_loss",
            "Let a trail go on after a real loss, on the server's machine.",
        ),
    },
    help="""Create and manage orgs (with the platform key).

    An org is a tenant; it has exactly one trail.""",
)
