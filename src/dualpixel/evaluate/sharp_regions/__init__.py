"""What a network does to what is in focus already."""
