"""Stands in for scheduler, kubelet and kube-proxy on a development machine: runs pods as local processes, without root.

What it does not do, beside isolation: pull images, give Services addresses, refresh mounted Secrets, honour taints and affinity.
It never ships in an image or a chart.
"""
