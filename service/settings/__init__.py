"""What the environment says about this deployment."""

from service.settings.settings import (
    READABLE,
    STACK_PART,
    TRACKERS,
    Settings,
    default_home,
    get_settings,
    settings_with,
)

__all__ = [
    "READABLE",
    "STACK_PART",
    "TRACKERS",
    "Settings",
    "default_home",
    "get_settings",
    "settings_with",
]
