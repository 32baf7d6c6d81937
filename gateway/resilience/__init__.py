"""State machines that keep calls going when instances fail; all take now."""
