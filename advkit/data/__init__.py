"""DATA reference to images and labels."""
