"""What holds for the tests of every tier."""

from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile(
    "any machine", settings.get_profile(settings.get_current_profile_name()), deadline=None
)
settings.load_profile("any machine")
