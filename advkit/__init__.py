"""advkit: measure, reproduce and extend adversarial transferability from the shell."""

__version__ = "0.1.0"
