"""One minimax iteration."""
