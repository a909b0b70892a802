"""An input becomes a scene, and windows of it."""
