"""Tests of the image and of k8s/, in three tiers: static, on an API server, on a cluster (docs/kubernetes.md)."""
