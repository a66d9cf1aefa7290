"""How far apart two domains are."""
