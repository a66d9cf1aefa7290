"""What each tool says: its result model, how that is built, its table; envelope, rates, gates."""
