"""Models for apps and devices: signed archives, and the channels that they are published in."""
