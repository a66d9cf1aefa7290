"""What a person types: one file per tool. Nothing heavy is imported before a command runs."""
