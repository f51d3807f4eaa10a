"""Grows an image classifier by new categories: images and a pretrained network in, a checked model and a report out."""
