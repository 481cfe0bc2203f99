"""A small espresso shop: data made for it, and agents over that data."""
