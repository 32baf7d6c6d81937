"""The APIs of the example services."""
