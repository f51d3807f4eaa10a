"""What people read about a run: one page that needs nothing but a browser."""
