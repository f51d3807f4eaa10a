"""The embedded default: a real control plane, an S3 server and a stand-in for a node on one machine. Never shipped."""
