"""How a reply is worded."""
