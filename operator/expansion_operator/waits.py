"""Seconds after which something is looked at again that sends no event."""

SOON = 1.0
"""Our own next step."""
GONE = 2.0
"""Whether a deleted Job is gone."""
BUSY = 5.0
"""Work."""
PROGRESS = 15.0
"""How far a run is: the trainer writes it as often. Its end sends an event."""
HEALING = 15.0
"""What may heal by itself."""
REFUSED = 60.0
"""What probably only a person can change."""
LEAST_POLL = 10.0
"""Images; listing a bucket costs money, whatever spec.retrain.pollInterval says."""
