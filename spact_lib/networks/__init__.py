"""anonymizer (f_A), action (f_T, f'_T), privacy (f_B, f'_B). They import nothing of ours but ``errors``, ``plain``."""
