"""The systems that muster is measured beside."""
