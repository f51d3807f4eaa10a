"""`kubectl clx`: what a ClassifierExpansion does and why, its trainer's words, and three things a person may ask of it."""
