"""The model leaves here: one SavedModel that takes a file's bytes and answers with names, checked before anyone sees it."""
