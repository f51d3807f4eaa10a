"""The manifests of what the operator makes. Pure: values in, dictionaries out."""
